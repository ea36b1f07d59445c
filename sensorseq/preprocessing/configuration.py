"""The configuration file of `prepare`: TOML, with every key checked."""

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from sensorseq.errors import ConfigurationError, did_you_mean
from sensorseq.options import Option
from sensorseq.preprocessing.options import OPTIONS, SECTIONS

_MOST_BYTES = 1 << 16  # maximum size of a configuration file


def configuration_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by name in sections; the value of an unset key is None.

    `steps` is a list of tables in the order of the steps; the keys of each table are ``kind`` and
    the fields of that step.
    """
    sections: dict[str, Any] = {section: {} for section in SECTIONS}
    for name, option in OPTIONS.items():
        sections[option.section][option.key] = _check(option, options.get(name))
    sections["steps"] = sections["steps"]["steps"] or []
    return sections


def options_in(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set in sections, by name.

    An error about an unknown section or key names the nearest known one.
    """
    for section, keys in sections.items():
        _check_keys(section, keys)
    values = {}
    for name, option in OPTIONS.items():
        value = _check(option, option.value_in(sections))
        if value is not None and (value or name != "steps"):
            values[name] = value
    return values


def to_toml(sections: Mapping[str, Any]) -> str:
    """Return the content of a configuration file with these sections."""
    lines = []
    for section, content in sections.items():
        is_table = isinstance(content, Mapping)
        head = f"[{section}]" if is_table else f"[[{section}]]"
        for keys in [content] if is_table else content:
            set_keys = {key: value for key, value in keys.items() if value is not None}
            if set_keys:
                lines += [head, *(f"{_key(k)} = {_toml(v)}" for k, v in set_keys.items()), ""]
    return "\n".join(lines)


def read_configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the options that are set in a TOML file, by name."""
    file = Path(path)
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(
                f"{file}: has more than {_MOST_BYTES} bytes, too many for a configuration file."
            )
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is not valid TOML ({error}).") from error
    try:
        return options_in(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def check_recorded(sections: Mapping[str, Any]) -> None:
    """Raise an error if an option in a recorded configuration has the wrong type.

    Keys that are not options are ignored.
    """
    for option in OPTIONS.values():
        value = option.value_in(sections)
        if value != "none":
            _check(option, json.loads(json.dumps(value)))  # turns tuples into lists


def _check_keys(section: str, keys: Any) -> None:
    """Raise an error if a section, or a key in it, is unknown."""
    if section not in SECTIONS:
        if home := _sections_with(section):
            raise ConfigurationError(f"key {section!r} belongs in section [{home[0]}].")
        raise ConfigurationError(
            f"section [{section}] is not known.{_hint(section, list(SECTIONS))}"
        )
    if section == "steps":
        return
    if not isinstance(keys, Mapping):
        raise ConfigurationError(
            f"{section} = {keys!r} is not valid: [{section}] must be a section with keys."
        )
    known_keys = [option.key for option in OPTIONS.values() if option.section == section]
    for key in keys:
        if key not in known_keys:
            if home := _sections_with(key):
                raise ConfigurationError(
                    f"key {key!r} in [{section}] belongs in section [{home[0]}]."
                )
            raise ConfigurationError(
                f"key {key!r} in [{section}] is not known.{_hint(key, known_keys)}"
            )


def _sections_with(key: str) -> list[str]:
    return [o.section for o in OPTIONS.values() if o.key == key and o.section != "steps"]


def _check(option: Option, value: Any) -> Any:
    """Return an option's value; raise an error if it has a wrong type for a configuration file."""
    try:
        return _adapter(option.name).validate_python(value)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        parts = [option.section, *([] if option.section == "steps" else [option.key])]
        parts += map(str, problem["loc"])
        raise ConfigurationError(
            f"{'.'.join(parts[:2])} = {problem['input']!r} is not valid: {problem['msg'].lower()}."
        ) from error


@cache
def _adapter(name: str) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(OPTIONS[name].toml | None, config=pydantic.ConfigDict(strict=True))


def _hint(name: str, names: list[str]) -> str:
    return f"{did_you_mean(name, names)} Known: {', '.join(names)}."


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    # JSON and TOML agree on strings, numbers and booleans, except for DEL and surrogate pairs.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
