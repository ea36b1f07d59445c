"""The configuration file of `prepare`: TOML, with every key checked."""

import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pydantic

from sensorseq.errors import ConfigurationError, SensorseqError, nearest_known

_Texts = list[str]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class InputSection(_Section):
    """Which recordings to read, and how; see `readers.find_recordings` and `read_source`."""

    files: _Texts | None = None
    pair: str | None = None
    time_column: str | None = None
    label_column: str | None = None
    labels: _Texts | None = None
    exclude: _Texts | None = None
    channels: _Texts | None = None
    units: dict[str, str] | None = None
    manifest: str | bool | None = None
    repair_stamps: bool | None = None


class ResampleSection(_Section):
    """Resampling to a common rate; see `preprocessing.resample.resample_recording`."""

    sample_rate_hz: float | None = None
    max_gap_s: float | None = None
    engine: str | None = None
    attenuation_db: float | None = None


class DeriveSection(_Section):
    """Steps chosen by names, units and rates; see `preprocessing.derive.derive_steps`."""

    mode: str | None = None


class WindowSection(_Section):
    """How windows are cut; see `preprocessing.window.window_recordings`."""

    window_s: float | None = None
    hop_s: float | None = None
    label_rule: str | None = None
    min_purity: float | None = None
    short: str | None = None
    train_hop_s: float | None = None
    train_phase: str | None = None


class SplitSection(_Section):
    """Shares of train, validation and test; ``fractions = "none"`` for no split."""

    fractions: list[float] | str | None = None
    by: str | None = None
    embargo_s: float | None = None
    random_state: int | None = None


class ScaleSection(_Section):
    """Statistics stored for the model; ``kind = "none"`` for none. See `fit_scaler`."""

    kind: str | None = None
    per: str | None = None
    rated: dict[str, float] | None = None


class BalanceSection(_Section):
    """Choice of training windows; ``strategy = "none"`` for all. See `balance_indices`."""

    strategy: str | None = None
    max_per_recording: int | float | None = None
    augmentation: dict[str, int | float | list[Any]] | None = None


# Arguments of `prepare` whose key in a section is shorter.
_RENAMED = {
    ("resample", "engine"): "resample_engine",
    ("derive", "mode"): "derive",
    ("split", "fractions"): "split",
    ("split", "by"): "split_by",
    ("scale", "kind"): "scale",
    ("scale", "per"): "scale_per",
    ("balance", "strategy"): "balance",
}


class PrepareConfiguration(_Section):
    """The content of a configuration file; None for keys that are not set.

    `steps` is an array of tables, ``[[steps]]``, in the order they are applied; the keys of each
    are ``kind`` and the fields of that step, see `preprocessing.steps`. `derive` writes them for
    you; a prepared file stores the steps, not `derive`.
    """

    input: InputSection = InputSection()
    resample: ResampleSection = ResampleSection()
    derive: DeriveSection = DeriveSection()
    steps: list[dict[str, Any]] = []
    window: WindowSection = WindowSection()
    split: SplitSection = SplitSection()
    scale: ScaleSection = ScaleSection()
    balance: BalanceSection = BalanceSection()

    def arguments(self) -> dict[str, Any]:
        """Return the keys that are set as keyword arguments of `prepare`."""
        every: dict[str, Any] = {"steps": self.steps or None}
        for section, keys in self.model_dump(exclude={"steps"}).items():
            every |= {_RENAMED.get((section, key), key): value for key, value in keys.items()}
        return {name: value for name, value in every.items() if value is not None}

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "PrepareConfiguration":
        """Return the configuration with these arguments; the reverse of `arguments`.

        Raises
        ------
        ConfigurationError
            If an argument is unknown, or its value is invalid.
        """
        home = {
            _RENAMED.get((section, key), key): (section, key)
            for section, field in cls.model_fields.items()
            for key in _keys_of(field)
        }
        sections: dict[str, Any] = {}
        for name, value in arguments.items():
            if name == "steps":
                sections["steps"] = value
                continue
            if name not in home:
                raise ConfigurationError(f"{name!r} is not an argument.{_known(name, list(home))}")
            section, key = home[name]
            sections.setdefault(section, {})[key] = value
        return make_configuration(sections)

    def to_toml(self) -> str:
        """Return the text of an equivalent configuration file."""
        tables = [
            (f"[{section}]", keys) for section, keys in self.model_dump(exclude={"steps"}).items()
        ]
        tables[2:2] = [("[[steps]]", step) for step in self.steps]
        lines = []
        for head, keys in tables:
            said = {key: value for key, value in keys.items() if value is not None}
            if said:
                lines += [head, *(f"{_key(k)} = {_toml(v)}" for k, v in said.items()), ""]
        return "\n".join(lines)


def make_configuration(content: Mapping[str, Any]) -> PrepareConfiguration:
    """Check the sections of a configuration.

    Raises
    ------
    ConfigurationError
        If a section, key or step is unknown (the message names the nearest known one), or a value
        has the wrong type.
    """
    try:
        return PrepareConfiguration.model_validate(content)
    except pydantic.ValidationError as error:
        raise ConfigurationError(_first_problem(error)) from error


def read_configuration(path: str | os.PathLike[str]) -> PrepareConfiguration:
    """Read a TOML file: sections input, resample, derive, window, split, scale, balance; steps.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, is not TOML, has an unknown section or key (the message names
        the nearest known one), or a value has the wrong type.
    """
    file = Path(path)
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: is not valid TOML ({error}).") from error
    try:
        return make_configuration(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


@contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the name of the configuration file to errors about its content."""
    try:
        yield
    except SensorseqError as error:
        if str(path) not in str(error):
            error.add_note(f"in the configuration {path}")
        raise


def _first_problem(error: pydantic.ValidationError) -> str:
    problems = error.errors(include_url=False)
    # Report an unknown key first: it often causes the other problems.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = [str(part) for part in problem["loc"]]
    sections = PrepareConfiguration.model_fields
    if problem["type"] != "extra_forbidden":
        key = ".".join(part for part in where[:2])
        why = problem["msg"].lower()
        if problem["type"] == "model_type":
            why = f"[{key}] must be a section with keys"
        return f"{key} = {problem['input']!r} is not valid: {why}."
    if len(where) == 1:
        home = [name for name, field in sections.items() if where[0] in _keys_of(field)]
        if home:
            return f"key {where[0]!r} belongs in section [{home[0]}]."
        return f"section [{where[0]}] is not known.{_known(where[0], list(sections))}"
    section, key = where[0], where[1]
    keys = _keys_of(sections[section])
    home = [name for name, field in sections.items() if key in _keys_of(field)]
    if home:
        return f"key {key!r} in [{section}] belongs in section [{home[0]}]."
    return f"key {key!r} in [{section}] is not known.{_known(key, keys)}"


def _keys_of(field: Any) -> list[str]:
    section = field.annotation
    return list(section.model_fields) if not get_args(section) else []


def _known(name: str, names: list[str]) -> str:
    nearest = nearest_known(name, names)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return f"{hint} Known: {', '.join(names)}."


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """Return a plain value in TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    # JSON and TOML write texts, numbers and booleans alike, except for DEL and surrogate pairs.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
