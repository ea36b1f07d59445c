"""The options of a preparation, checked, and the pipeline made of them."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.configuration import (
    PrepareConfiguration,
    naming_file,
    read_configuration,
)
from sensorseq.preprocessing.derive import DERIVE
from sensorseq.preprocessing.options import OPTIONS, PreparationOptions
from sensorseq.preprocessing.pipeline import PreparePipeline, pipeline_arguments, with_changes


@dataclass(frozen=True)
class Request:
    """The checked options, and the pipeline made of them."""

    options: PreparationOptions
    pipeline: PreparePipeline
    replaces_steps: bool  # of the configuration file, by derived ones

    @classmethod
    def of(
        cls, given: Mapping[str, Any], config: str | os.PathLike[str] | PrepareConfiguration | None
    ) -> "Request":
        """Check the options that are given, and take the others from the configuration."""
        configured = PrepareConfiguration()
        named: AbstractContextManager[None] = nullcontext()
        if isinstance(config, PrepareConfiguration):
            configured = config
        elif config is not None:
            configured, named = read_configuration(config), naming_file(config)
        use = configured.arguments()
        replaced = given.get("derive") in DERIVE and bool(use.get("steps"))
        use = with_changes(use, {name: v for name, v in given.items() if v is not None})
        seed = use.get("random_state", 0)
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise ArgumentError(
                f"random_state={seed!r} is not an integer of 0 or more; a prepared file needs a"
                " fixed seed."
            )
        for name in ("files", "labels", "exclude", "channels"):
            if name in use:
                value = use[name]
                use[name] = [value] if isinstance(value, str) else [str(item) for item in value]
        with named:
            pipeline = PreparePipeline(**pipeline_arguments(use))
        of_files = {name: use[name] for name, o in OPTIONS.items() if o.of_files and name in use}
        if of_files.get("units") is not None:
            of_files["units"] = dict(of_files["units"])
        of_files["repair_stamps"] = bool(use.get("repair_stamps", False))
        return cls(replace(pipeline.options, **of_files), pipeline, replaced)

    @property
    def configuration(self) -> dict[str, Any]:
        """In sections as in a configuration file; nothing of this machine."""
        use = {name: getattr(self.options, name) for name, o in OPTIONS.items() if o.of_files}
        use["exclude"] = list(use["exclude"] or ()) or None
        if not isinstance(use["manifest"], bool | None):
            use["manifest"] = Path(use["manifest"]).name
        return PrepareConfiguration.of(self.pipeline.arguments | use).sections()
