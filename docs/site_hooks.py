"""Hooks for `mkdocs` that insert the commands' help texts and convert numpydoc's references."""

import re
from collections.abc import Iterator
from typing import Any

from typer import Context
from typer.main import get_command

from sensorseq.cli import app

MARK = "<!-- the help of every command stands here on the site -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker on a page with the help texts of all commands."""
    return markdown.replace(MARK, "\n\n".join(help_of_commands())) if MARK in markdown else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Replace numpydoc's citations in docstrings, ``[1]_`` and ``.. [1]``, with [1]."""
    return re.sub(r"(?<=\[\d\])_(?=\W)|\.\. (?=\[\d\])", "", html)


def help_of_commands() -> Iterator[str]:
    """Yield a heading and the output of `--help` for each command."""
    group = get_command(app)
    parent = Context(group, info_name="sensorseq")
    for name, command in group.commands.items():
        context = Context(command, parent=parent, info_name=name, max_content_width=80)
        yield f"## {name}\n\n```text\n{command.get_help(context)}\n```"
