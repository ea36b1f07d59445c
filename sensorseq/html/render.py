"""Render the templates of this package into pages that need neither other files nor a network."""

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sensorseq.errors import printable

# A value ends before the mark that ends a sentence or a clause.
_OPTION = re.compile(
    r"(--(?:exclude|label-column) (?:'[^']*'|[^\s'])+?(?=[.;,]?(?:\s|$))|--[a-z][a-z-]*)"
)


def render(template: str, **values: Any) -> str:
    """Render a template as a page or fragment; all text is escaped, except `Markup`."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sensorseq.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"signs": _signs, "options": _options}
    script = _read("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "style": Markup(_read("style.css")),
        "script": Markup(script),
        # only the page's own script may run, even if a name in the report contains a script
        "policy": Markup(
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        ),
    }
    return environment


def _read(name: str) -> str:
    return resources.files("sensorseq.html").joinpath(name).read_text("utf-8").strip()


def _options(text: str) -> Markup:
    """Mark up command-line options as code, with their values if they name recordings."""
    parts = _OPTION.split(text)  # options are at odd positions
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if at % 2 else part for at, part in enumerate(parts))


def _printable(value: Any) -> Any:
    """Escape control characters, such as those in a file name."""
    return type(value)(printable(value, "\n\t")) if isinstance(value, str) else value


def _signs(text: Any) -> str:
    """Replace "+-" with the plus-minus sign."""
    return str(text).replace("+-", "±")
