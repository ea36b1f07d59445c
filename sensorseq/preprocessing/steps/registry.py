"""Steps by kind, for configurations and files."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sensorseq.errors import ArgumentError, ConfigurationError, check_choice, nearest_known
from sensorseq.preprocessing.steps.base import StepBase
from sensorseq.preprocessing.steps.chain import StepChain
from sensorseq.preprocessing.steps.features import Derivative, Difference, Moving
from sensorseq.preprocessing.steps.filters import BandPass, Detrend, Notch
from sensorseq.preprocessing.steps.products import Magnitude, Power, Product, SignedBy, Subtract
from sensorseq.preprocessing.steps.spectral import SpectralFrames

STEPS: dict[str, type[StepBase]] = {
    step.kind: step
    for step in (
        Detrend,
        BandPass,
        Notch,
        Derivative,
        Difference,
        Moving,
        SpectralFrames,
        Product,
        Power,
        Subtract,
        SignedBy,
        Magnitude,
        StepChain,
    )
}


def make_step(said: Mapping[str, Any]) -> StepBase:
    """Make a step from its `to_dict`, or from a TOML table.

    Parameters
    ----------
    said : mapping
        ``{"kind": ..., **fields}``; missing fields get their defaults.

    Returns
    -------
    Step

    Raises
    ------
    ConfigurationError
        If `kind` is missing, or a field is missing or unknown (the message names the nearest).
    ArgumentError
        If the kind is unknown (the message names the nearest), or a value is invalid.
    """
    if not isinstance(said, Mapping) or "kind" not in said:
        raise ConfigurationError(f"a step must be a table with a kind, not {said!r}.")
    step = STEPS[check_choice("kind", said["kind"], STEPS)]
    known = {field.name: field for field in fields(step)}  # type: ignore[arg-type]
    given = {name: value for name, value in said.items() if name != "kind"}
    for name in given:
        if name not in known:
            nearest = nearest_known(name, known)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ConfigurationError(
                f"step {step.kind!r} has no field {name!r}.{hint} Known: {', '.join(known)}."
            )
    for name, field in known.items():
        if field.default is MISSING and name not in given:
            raise ConfigurationError(f"step {step.kind!r} needs {name}.")
    try:
        if step is StepChain:
            entries = given.get("steps", ())
            if not isinstance(entries, list | tuple):
                raise ConfigurationError(f"steps={entries!r} is not a list of tables.")
            return StepChain(tuple(make_step(entry) for entry in entries))
        return step(**given)
    except ArgumentError as error:
        error.add_note(f"in step {step.kind!r}")
        raise
