"""Replace argument names in messages with command-line options."""

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.preprocessing.options import OPTIONS

_VALUE = (  # the repr of a string, list, tuple, dict, number or name, or nothing
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^][]*\]|\((?!--)[^()]*\)|\{[^{}]*\}"
    r"|[-+]?\w[\w.+-]*\b|"
)
_OF_STEPS = ("kind", "engine")  # configuration keys with another meaning in messages


@dataclass(frozen=True)
class _OptionText:
    """An argument as it is written on the command line, with and without a value."""

    flag: str
    off: str = ""  # the option that turns the argument off
    is_switch: bool = False
    between: str = " "
    of: str = ""  # name of another command that has the option, if this command lacks it

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
    text: str, options: Iterable[Any], settings: Iterable[str], arguments: Sequence[str]
) -> str:
    """Return a message with argument names replaced by a command's options (click parameters).

    The function recognizes ``name=value``, names in backticks, and names with an underscore.
    `settings` are the names that ``--set`` accepts, and `arguments` are the strings that the user
    typed. If `arguments` contains ``--config``, a preparation option that the user did not type is
    named as a key of the configuration file.
    """
    command_options = {
        option.name: _text_of(option) for option in options if option.opts[0].startswith("-")
    }
    texts: dict[str, _OptionText] = {}
    if "window_s" not in command_options:  # the command reads a file that `prepare` made
        made = {
            name: _OptionText(f"--{name.replace('_', '-')}")
            for name in ("on_error", "allow_scales", "allow_constant")
        }
        made |= _texts_of_preparation({}, ())
        texts = {name: replace(written, of="prepare") for name, written in made.items()}
    texts |= {
        name: _OptionText(f"--set {name}", between="=") for name in settings
    } | command_options
    if "window_s" in command_options:
        texts |= _texts_of_preparation(command_options, arguments)
    names = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
    bare = "|".join(re.escape(name) for name in sorted(texts, key=len, reverse=True) if "_" in name)
    if not names:
        return text
    pattern = (
        rf"(?<![\w.'\"`/\\=-])(?:`(?P<ticked>{names})(?:=(?P<quoted>{_VALUE}))?`"
        rf"|(?P<name>{names}) ?= ?(?P<value>{_VALUE})"
        rf"|(?P<before>{names}) (?=\(--)"
        rf"|(?P<bare>{bare or '(?!)'})(?![\w'\"`/\\=(-]|\.\w))"
        r"(?: ?\((?P<option>--[^()]*)\))?"
    )

    def shown(match: re.Match[str]) -> str:
        if match["option"]:  # the message already names the option
            return match["option"]
        written = texts[match["ticked"] or match["name"] or match["before"] or match["bare"]]
        return written.with_value(match["quoted"] or match["value"] or "")

    return re.sub(pattern, shown, text)


def _text_of(option: Any) -> _OptionText:
    flag = max(option.opts, key=len)
    return _OptionText(flag, max(option.secondary_opts, key=len, default=""), option.is_flag)


def _texts_of_preparation(
    command_options: Mapping[str, _OptionText], arguments: Sequence[str]
) -> dict[str, _OptionText]:
    """Map names of preparation options to the command's options or to keys of a configuration."""
    typed_flags = {text.partition("=")[0] for text in arguments}
    written_of = {}
    for name, option in OPTIONS.items():
        is_in_file = not option.help or (
            "--config" in typed_flags and option.flag not in typed_flags
        )
        key = _OptionText(f"[{option.section}] {option.key}", between=" = ")
        written_of[name] = (
            key if is_in_file else command_options.get(name, _OptionText(option.flag))
        )
        if command_options and option.key not in command_options and option.key not in _OF_STEPS:
            written_of[option.key] = written_of[name]
    return written_of


def _parsed(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _in_words(value: Any, text: str) -> str:
    """Format a value for the command line: lists with commas, True as true, None as none."""
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else text
