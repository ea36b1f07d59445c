"""The training curve as a picture: raw, with the noise that its validation size explains."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.atomic import write_whole
from sensorseq.errors import EnvironmentProblemError
from sensorseq.fluctuation.logs.read import read_history
from sensorseq.fluctuation.report.curves import Curves, draw_curves
from sensorseq.fluctuation.statistics.run import (
    Floats,
    check_count,
    check_epoch,
    read_columns,
    read_numbers,
)
from sensorseq.history import History

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; line styles differ as well.
_STYLES: Mapping[str, Any] = {
    "train": {"color": "#0072B2", "ls": "--"},
    "validation": {"color": "#D55E00", "ls": "-"},
    "band": {"color": "#D55E00", "alpha": 0.18, "lw": 0},
    "best": {"color": "#999999", "ls": "--"},
    "kept": {"color": "#333333", "ls": ":"},
    "missing": {"color": "#333333", "ls": "", "marker": "x"},
}
_FEW_EPOCHS = 60  # up to here each epoch gets a dot


def draw_history(
    history: History | Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]],
    *,
    n_val: int | None = None,
    best_epoch: int | None = None,
    path: str | Path | None = None,
    loss_unit: str = "nats",
) -> "Figure":
    """Draw loss and accuracy of every epoch, unsmoothed, and write the picture to `path` if given.

    The band is the 95 % range in which the accuracy of `n_val` independent windows scatters by
    sampling alone, around its local trend. No window of pyplot opens, and nothing is to be closed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentProblemError(
            'drawing a history needs matplotlib: pip install "sensorseq[plot]"'
        ) from error

    class ShownFigure(Figure):
        """A figure that a notebook shows, without pyplot."""

        def _repr_png_(self) -> bytes:
            picture = BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    rows = read_history(history).rows
    _, n_epochs = read_columns(rows)
    figure = ShownFigure(figsize=(7.2, 6.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = dict(zip(("loss", "accuracy"), figure.subplots(2, 1, sharex=True), strict=True))
    drawn = draw_curves(
        read_numbers(rows),
        n_val=check_count("n_val", n_val),
        best_epoch=check_epoch(best_epoch, n_epochs),
        loss_unit=loss_unit,
        make_panel=lambda title, *limits, **labels: _Panel(
            axes[title.split()[0]], *limits, **labels
        ),
    )
    _finish(figure, axes, drawn)
    if path is not None:
        picture = BytesIO()
        figure.savefig(picture, format=Path(path).suffix[1:] or None)
        is_named = Path(path).suffix or Path(path).is_dir()
        write_whole(path if is_named else f"{path}.png", picture.getvalue())
    return figure


class _Panel:
    """What `sensorseq.html.svg.Panel` is to the page, as far as curves need it."""

    def __init__(
        self,
        axes: "Axes",
        x_limits: tuple[float, float],
        y_limits: tuple[float, float],
        *,
        x_label: str,
        y_label: str,
    ) -> None:
        self.axes, self.y_limits = axes, y_limits
        self.artists: dict[str, Artist] = {}
        axes.set(xlim=x_limits, ylim=y_limits, ylabel=y_label)

    def line(self, x: Floats, y: Floats, style: str) -> None:
        if style != "trend" and np.isfinite(y).any():
            marker = "o" if len(x) <= _FEW_EPOCHS else ""
            (self.artists[style],) = self.axes.plot(
                x, y, marker=marker, markersize=3, lw=1.4, **_STYLES[style]
            )

    def band(self, x: Floats, low: Floats, high: Floats, style: str) -> None:
        self.artists[style] = self.axes.fill_between(x, low, high, **_STYLES[style])

    def vertical(self, x: float, style: str) -> None:
        self.artists[style] = self.axes.axvline(x, lw=1.2, **_STYLES[style])

    def crosses(self, x: Floats, style: str, words: str) -> None:
        at_top = self.axes.get_xaxis_transform()
        (self.artists[style],) = self.axes.plot(
            x, np.full(len(x), 0.96), transform=at_top, **_STYLES[style]
        )

    def note(self, text: str) -> None:
        self.axes.annotate(
            text, (1, 1), xycoords="axes fraction", ha="right", va="bottom", fontsize=9
        )


def _finish(figure: "Figure", axes: "Mapping[str, Axes]", drawn: Curves | None) -> None:
    """Name what was drawn in one legend, outside the panels: it can hide no part of a curve."""
    from matplotlib.ticker import MaxNLocator

    panels = [] if drawn is None else drawn.panels
    for name, one in axes.items():
        if not any(panel.axes is one for panel in panels):
            one.text(0.5, 0.5, f"no {name} recorded", transform=one.transAxes, ha="center")
        one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        one.grid(alpha=0.3, lw=0.6)
        one.spines[["top", "right"]].set_visible(False)
    axes["accuracy"].set_xlabel("epoch")
    if drawn is None:
        return
    entries = {}
    for panel in panels:
        for style, artist in panel.artists.items():
            artist.set_label(drawn.legend[style])
            entries[drawn.legend[style]] = artist
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=2,
        fontsize=9.5,
        frameon=False,
    )
