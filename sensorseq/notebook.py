"""Tables that notebooks show."""

import html
from collections.abc import Iterable, Sequence

from sensorseq.errors import printable


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table for ``_repr_html_``; texts are escaped.

    Parameters
    ----------
    caption : str
    heads : sequence of str
        Names of the columns.
    rows : iterable of sequences of str
    """

    def row(cells: Iterable[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f"<table><caption>{html.escape(printable(caption))}</caption>"
        f"<thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )
