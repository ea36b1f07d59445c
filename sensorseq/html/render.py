"""render: fill a template of this package. Pages need no other file and no network."""

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sensorseq.errors import printable


def render(template: str, **values: Any) -> str:
    """Return a page or a fragment of this template. All text is escaped, except `Markup`."""
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
        # the page may run its own script and no other, whatever a name in the history holds
        "policy": Markup(
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        ),
    }
    return environment


def _read(name: str) -> str:
    return resources.files("sensorseq.html").joinpath(name).read_text("utf-8").strip()


def _options(text: str) -> Markup:
    """Set options of the command line as code."""
    return Markup(re.sub(r"(--[a-z][a-z-]*)", r"<code>\1</code>", str(escape(text))))


def _printable(value: Any) -> Any:
    """Show control characters, such as those of a file name, as escapes."""
    return type(value)(printable(value, "\n\t")) if isinstance(value, str) else value


def _signs(text: Any) -> str:
    return str(text).replace("+-", "±")
