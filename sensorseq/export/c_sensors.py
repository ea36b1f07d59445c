"""A classifier of several sensors as C99: the files of each sensor, and two that join them."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, noting
from sensorseq.export.c_source import (
    SMALL_BYTES,
    CExport,
    COptions,
    compare_accuracy,
    describe_accuracy,
    render_c,
    templates,
)
from sensorseq.export.c_tables import Tables
from sensorseq.prediction.fused import FusedModel
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.options import PreparationOptions


def render_sensors(model: FusedModel, options: COptions) -> tuple[CExport, dict[Path, str]]:
    """Return the export of `SensorFusionClassifier.to_c`, with the text of each file."""
    fusion, prefix = model.fusion, options.prefix
    table = fusion.weight_table()
    exports: dict[str, CExport] = {}
    texts: dict[Path, str] = {}
    macros: dict[str, str] = {}
    names = {name: re.sub(r"[^A-Za-z0-9_]", "_", name) for name in fusion.sensors}
    for name, in_c in names.items():
        of_sensor = replace(options, prefix=f"{prefix}_{in_c}", check=None)
        with noting(f"in the model of sensor {name!r}"):
            exports[name], sources = render_c(model.models[name], of_sensor)
        for macro in re.findall(r"^#define (\w+)", sources[exports[name].header], re.M):
            if (other := macros.setdefault(macro, name)) != name:
                raise ArgumentError(
                    f"sensors {other!r} and {name!r} would both have the name {macro} in C; give"
                    " one of them another name, and fit again."
                )
        texts |= sources
    # The weights apply to logits that are not calibrated, but the C code joins calibrated ones.
    temperatures = [model.models[name].temperature for name in fusion.sensors]
    factors = table * np.array(temperatures) / model.temperature
    tables = Tables(options.weights == "int8")
    tables.add("join_factor", factors[-1:] if fusion.missing == "error" else factors, "f8")
    accuracy = compare_accuracy(model, options)
    header, code_of = map(templates().get_template, ("join.h.in", "join.c.in"))
    values = {
        "version": importlib.import_module("sensorseq").__version__,
        "model": model,
        "p": prefix,
        "P": prefix.upper(),
        "names": names,
        "headers": [export.header for export in exports.values()],
        "of": [f"of_{in_c}" for in_c in names.values()],
        "needs_all": fusion.missing == "error",
        "hop_s": _hop_s(model.models[fusion.sensors[0]]),
        "tables": tables,
        "accuracy": None if accuracy is None else describe_accuracy(accuracy),
    }
    paths = Path(f"{prefix}_model.h"), Path(f"{prefix}_model.c")
    texts |= {paths[0]: header.render(values), paths[1]: code_of.render(values)}
    parts = exports.values()
    export = CExport(
        *paths,
        options.weights,
        sum(part.ram_bytes for part in parts),
        sum(part.flash_bytes for part in parts) + tables.n_bytes + SMALL_BYTES,
        sum(part.code_bytes for part in parts) + SMALL_BYTES,
        sum(part.multiply_adds for part in parts),
        accuracy,
        sensors=exports,
    )
    return export, texts


def _hop_s(model: TrainedModel) -> float | None:
    """Return the time between windows, common to all sensors; None after a fit on arrays."""
    preparation: Mapping[str, Any] = model.preparation or {}
    options = PreparationOptions.recorded(preparation)
    return (options.hop_s or options.window_s) if preparation.get("configuration") else None
