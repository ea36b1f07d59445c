"""The configuration file of a preparation: TOML, every key checked."""

import os
import tomllib
from pathlib import Path
from typing import Any, get_args

import pydantic

from sensorseq.errors import ConfigurationError, nearest_known

_Texts = list[str]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class InputSection(_Section):
    """Which recordings, and what of them; see `readers.find_recordings`."""

    files: _Texts | None = None
    pair: str | None = None
    time_column: str | None = None
    labels: _Texts | None = None
    exclude: _Texts | None = None
    channels: _Texts | None = None
    manifest: str | bool | None = None


class ResampleSection(_Section):
    """The common clock; see `preprocessing.resample.resample_recording`."""

    sample_rate_hz: float | None = None
    max_gap_s: float | None = None


class WindowSection(_Section):
    """How windows are cut; see `preprocessing.window.window_recordings`."""

    window_s: float | None = None
    hop_s: float | None = None


class ScaleSection(_Section):
    """Statistics stored for the model; ``kind = "none"`` for none. See `fit_scaler`."""

    kind: str | None = None


class SplitSection(_Section):
    """Shares of train, validation and test; ``fractions = "none"`` for no split."""

    fractions: list[float] | str | None = None
    random_state: int | None = None


class BalanceSection(_Section):
    """Choice of training windows; ``strategy = "none"`` for all. See `balance_indices`."""

    strategy: str | None = None


class PrepareConfiguration(_Section):
    """What a configuration file may say; None where it says nothing."""

    input: InputSection = InputSection()
    resample: ResampleSection = ResampleSection()
    window: WindowSection = WindowSection()
    scale: ScaleSection = ScaleSection()
    split: SplitSection = SplitSection()
    balance: BalanceSection = BalanceSection()

    def arguments(self) -> dict[str, Any]:
        """Return what is said as keyword arguments of `prepare`."""
        said: dict[str, Any] = {
            **self.input.model_dump(),
            **self.resample.model_dump(),
            **self.window.model_dump(),
            "scale": self.scale.kind,
            "split": self.split.fractions,
            "random_state": self.split.random_state,
            "balance": self.balance.strategy,
        }
        return {name: value for name, value in said.items() if value is not None}


def read_configuration(path: str | os.PathLike[str]) -> PrepareConfiguration:
    """Read a TOML file with sections input, resample, window, scale, split and balance.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, is not TOML, has an unknown section or key (the message names
        the nearest known one), or a value of the wrong type.
    """
    file = Path(path)
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML ({error}).") from error
    try:
        return PrepareConfiguration.model_validate(content)
    except pydantic.ValidationError as error:
        raise ConfigurationError(f"{file}: {_first_problem(error)}") from error


def _first_problem(error: pydantic.ValidationError) -> str:
    problems = error.errors(include_url=False)
    # An unknown key explains more than what else may be wrong.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = [str(part) for part in problem["loc"]]
    sections = PrepareConfiguration.model_fields
    if problem["type"] != "extra_forbidden":
        key = ".".join(part for part in where[:2])
        return f"{key} = {problem['input']!r} does not fit: {problem['msg'].lower()}."
    if len(where) == 1:
        home = [name for name, field in sections.items() if where[0] in _keys_of(field)]
        if home:
            return f"{where[0]!r} belongs into section [{home[0]}]."
        return f"section [{where[0]}] is not known.{_known(where[0], list(sections))}"
    section, key = where[0], where[1]
    keys = _keys_of(sections[section])
    home = [name for name, field in sections.items() if key in _keys_of(field)]
    if home:
        return f"key {key!r} in [{section}] belongs into section [{home[0]}]."
    return f"key {key!r} in [{section}] is not known.{_known(key, keys)}"


def _keys_of(field: Any) -> list[str]:
    section = field.annotation
    return list(section.model_fields) if not get_args(section) else []


def _known(name: str, names: list[str]) -> str:
    nearest = nearest_known(name, names)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return f"{hint} Known: {', '.join(names)}."
