"""A classifier of several sensors as C99: the files of each, and two that join their results."""

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
    """Return what `SensorFusionClassifier.to_c` writes, as `render_c` does."""
    fusion, prefix = model.fusion, options.prefix
    table = fusion.weight_table()
    exports: dict[str, CExport] = {}
    texts: dict[Path, str] = {}
    macros: dict[str, str] = {}
    names = {name: re.sub(r"[^A-Za-z0-9_]", "_", name) for name in fusion.sensors}
    for name, in_c in names.items():
        own = replace(options, prefix=f"{prefix}_{in_c}", check=None)
        with noting(f"in the model of sensor {name!r}"):
            exports[name], made = render_c(model.models[name], own)
        for macro in re.findall(r"^#define (\w+)", made[exports[name].header], re.M):
            if (other := macros.setdefault(macro, name)) != name:
                raise ArgumentError(
                    f"sensors {other!r} and {name!r} would both have the name {macro} in C; give"
                    " one of them another name, and fit again."
                )
        texts |= made
    # Probabilities are calibrated, and the weights are those of logits that are not.
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
        "headers": [one.header for one in exports.values()],
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
        sum(one.ram_bytes for one in parts),
        sum(one.flash_bytes for one in parts) + tables.n_bytes + SMALL_BYTES,
        sum(one.code_bytes for one in parts) + SMALL_BYTES,
        sum(one.multiply_adds for one in parts),
        accuracy,
        sensors=exports,
    )
    return export, texts


def _hop_s(model: TrainedModel) -> float | None:
    """Return the time between windows, which all sensors share; None after a fit on arrays."""
    made: Mapping[str, Any] = model.preparation or {}
    options = PreparationOptions.recorded(made)
    return (options.hop_s or options.window_s) if made.get("configuration") else None
