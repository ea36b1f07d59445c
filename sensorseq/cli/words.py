"""Replace argument names in messages with command-line options."""

import ast
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from sensorseq.preprocessing.options import OPTIONS

_VALUE = (  # the repr of a string, list, tuple, dict, number or name, or nothing
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^][]*\]|\((?!--)[^()]*\)|\{[^{}]*\}"
    r"|[-+]?\w[\w.+-]*\b|"
)
_OF_STEPS = ("kind", "engine")  # configuration keys with another meaning in messages


def in_options(
    text: str, options: Iterable[Any], settings: Iterable[str], arguments: Sequence[str]
) -> str:
    """Return a message with argument names replaced by a command's options (click parameters).

    The function recognizes ``name=value``, names in backticks, and names with an underscore.
    `settings` are the names that ``--set`` accepts, and `arguments` are the strings that the user
    typed. If `arguments` contains ``--config``, a preparation option that the user did not type is
    named as a key of the configuration file.
    """
    own = {option.name: option for option in options if option.opts[0].startswith("-")}
    # how an argument is written, with {} for its value
    forms = {name: f"--set {name}={{}}" for name in settings}
    forms |= {name: f"{max(option.opts, key=len)} {{}}" for name, option in own.items()}
    for name, form in _preparation_forms(arguments).items():
        if "window_s" not in own:  # the command reads a file that `prepare` made
            forms.setdefault(name, f"{form} of `sensorseq prepare`")
        else:
            forms[name] = form
            if name in OPTIONS and OPTIONS[name].key not in (*own, *_OF_STEPS):
                forms[OPTIONS[name].key] = form

    def shown(match: re.Match[str]) -> str:
        if match["option"]:  # the message already names the option
            return match["option"]
        name = match["ticked"] or match["name"] or match["bare"]
        form, value = forms[name], match["quoted"] or match["value"] or ""
        option = re.sub(r" (= )?\{\}", "", form)
        if not value:
            return option.format("...")
        if value in ("True", "False", "None") and option != form and "[" not in form:
            without = own[name].secondary_opts if name in own else ()
            return option if value == "True" else max(without, default=f"no {option}")
        words = _in_words(value)
        return form.format(words if "[" in form else shlex.quote(words))

    names = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    bare = "|".join(name for name in sorted(forms, key=len, reverse=True) if "_" in name)
    pattern = (
        rf"(?<![\w.'\"`/\\=-])(?:`(?P<ticked>{names})(?:=(?P<quoted>{_VALUE}))?`"
        rf"|(?P<name>{names}) ?= ?(?P<value>{_VALUE})"
        rf"|(?P<bare>{bare})(?![\w'\"`/\\=(-]|\.\w))"
        r"(?: ?\((?P<option>--[^()]*)\))?"
    )
    return re.sub(pattern, shown, text)


def _preparation_forms(arguments: Sequence[str]) -> dict[str, str]:
    typed_flags = {text.partition("=")[0] for text in arguments}
    names = ("on_error", "allow_scales", "allow_constant")
    forms = {name: f"--{name.replace('_', '-')} {{}}" for name in names}
    for name, option in OPTIONS.items():
        in_file = not option.help or ("--config" in typed_flags and option.flag not in typed_flags)
        key = f"[{option.section}] {option.key} ="
        forms[name] = f"{key if in_file else option.flag} {{}}"
    return forms


def _in_words(text: str) -> str:
    """Format a value for the command line: lists with commas, True as true, None as none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return text.lower()
    return value if isinstance(value, str) else text
