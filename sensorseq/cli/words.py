"""Turn argument names in messages into command-line options."""

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.preprocessing.options import OPTIONS

_VALUE = (  # repr of a string, list, tuple, dict, number or name, or nothing
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^][]*\]|\((?!--)[^()]*\)|\{[^{}]*\}"
    r"|[-+]?\w[\w.+-]*\b|"
)
_OF_STEPS = ("kind", "engine")  # keys of the file that have another meaning in messages


@dataclass(frozen=True)
class _Typed:
    """How an argument is written on the command line, with and without a value."""

    flag: str
    off: str = ""  # the option that turns it off
    is_switch: bool = False
    between: str = " "
    of: str = ""  # the other command that has it, if this one has not

    def with_value(self, text: str) -> str:
        return self._with_value(text) + (f" of `sensorseq {self.of}`" if self.of else "")

    def _with_value(self, text: str) -> str:
        if not text:
            return f"{self.flag}=..." if self.between == "=" else self.flag
        value = _parsed(text)
        if self.is_switch or (value is None and self.between == " "):
            return self.flag if value else self.off or f"no {self.flag}"
        words = _in_words(value, text)
        if self.between == "=":  # as in --set name=value
            head, _, name = self.flag.partition(" ")
            return f"{head} {shlex.quote(f'{name}={words}')}"
        return f"{self.flag}{self.between}{words if self.between == ' = ' else shlex.quote(words)}"


def in_options(
    text: str, options: Iterable[Any], settings: Iterable[str], given: Sequence[str]
) -> str:
    """Return a message with argument names replaced by a command's options (click parameters).

    It recognizes ``name=value``, names in backticks, and names with an underscore. `settings` are
    the names that ``--set`` takes. `given` are the arguments as typed: with ``--config``, options
    of preparation that are not among them are named as keys of that file.
    """
    own = {option.name: _typed(option) for option in options if option.opts[0].startswith("-")}
    typed: dict[str, _Typed] = {}
    if "window_s" not in own:  # the file is made by `prepare`
        made = {
            name: _Typed(f"--{name.replace('_', '-')}")
            for name in ("on_error", "allow_scales", "allow_constant")
        }
        made |= _of_preparation({}, ())
        typed = {name: replace(one, of="prepare") for name, one in made.items()}
    typed |= {name: _Typed(f"--set {name}", between="=") for name in settings} | own
    if "window_s" in own:
        typed |= _of_preparation(own, given)
    names = "|".join(map(re.escape, sorted(typed, key=len, reverse=True)))
    bare = "|".join(re.escape(name) for name in sorted(typed, key=len, reverse=True) if "_" in name)
    if not names:
        return text
    pattern = (
        rf"(?<![\w.'\"`/\\=-])(?:`(?P<ticked>{names})(?:=(?P<quoted>{_VALUE}))?`"
        rf"|(?P<name>{names}) ?= ?(?P<value>{_VALUE})"
        rf"|(?P<known>{names}) (?=\(--)"
        rf"|(?P<bare>{bare or '(?!)'})(?![\w'\"`/\\=(-]|\.\w))"
        r"(?: ?\((?P<said>--[^()]*)\))?"
    )

    def shown(found: re.Match[str]) -> str:
        if found["said"]:  # the message already names the option
            return found["said"]
        one = typed[found["ticked"] or found["name"] or found["known"] or found["bare"]]
        return one.with_value(found["quoted"] or found["value"] or "")

    return re.sub(pattern, shown, text)


def _typed(option: Any) -> _Typed:
    flag = max(option.opts, key=len)
    return _Typed(flag, max(option.secondary_opts, key=len, default=""), option.is_flag)


def _of_preparation(own: Mapping[str, _Typed], given: Sequence[str]) -> dict[str, _Typed]:
    """Map the names of preparation options to the command's options or to keys of its file."""
    typed = {text.partition("=")[0] for text in given}
    found = {}
    for name, option in OPTIONS.items():
        is_in_file = not option.help or ("--config" in typed and option.flag not in typed)
        key = _Typed(f"[{option.section}] {option.key}", between=" = ")
        found[name] = key if is_in_file else own.get(name, _Typed(option.flag))
        if own and option.key not in own and option.key not in _OF_STEPS:
            found[option.key] = found[name]
    return found


def _parsed(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _in_words(value: Any, text: str) -> str:
    """Format a value as the user types it: lists with commas, true and none as in TOML."""
    if isinstance(value, list | tuple):
        return ",".join(str(one) for one in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else text
