"""The training curve as a picture: raw, with the noise that its validation size explains."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.errors import EnvironmentProblemError, writing
from sensorseq.fluctuation.logs.read import read_history
from sensorseq.fluctuation.statistics.columns import Column, check_count, check_epoch, read_columns
from sensorseq.fluctuation.statistics.metrics import sampling_band
from sensorseq.fluctuation.statistics.run import plural
from sensorseq.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; line styles differ as well.
TRAIN_COLOUR, VALIDATION_COLOUR, KEPT_COLOUR = "#0072B2", "#D55E00", "#333333"
_FEW_EPOCHS = 60  # up to here each epoch gets a dot


def draw_history(
    history: History | Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]],
    *,
    n_val: int | None = None,
    best_epoch: int | None = None,
    path: str | Path | None = None,
    title: str | None = None,
    loss_unit: str = "nats",
) -> "Figure":
    """Draw loss and accuracy of every epoch, unsmoothed.

    The shaded band shows the 95 % range (1.96 binomial standard deviations) in which the accuracy
    of `n_val` independent windows scatters by sampling alone, around the local trend of the
    validation accuracy. A curve inside its band is as calm as its validation set allows.

    Parameters
    ----------
    history : History, mapping of lists, or iterable of mappings
        As `FluctuationReport.from_history` takes it. Epochs without a number leave a gap.
    n_val : int, optional
        Independent validation windows; without it there is no band.
    best_epoch : int, optional
        Epoch, counted from 1, whose weights were kept; marked by a line.
    path : str or Path, optional
        Where to write the picture as well; the suffix chooses the format (png, svg, pdf).
    title : str, optional
        One line above the panels.
    loss_unit : str, default="nats"
        What the loss is measured in; nats is cross entropy's. Empty where there is no unit.

    Returns
    -------
    matplotlib.figure.Figure
        Independent of pyplot: nothing to close, no window opens. A notebook shows it.

    Raises
    ------
    ArgumentError
        If the history cannot be read, see `FluctuationReport.from_history`.
    EnvironmentProblemError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentProblemError(
            'drawing a history needs matplotlib: pip install "sensorseq[plot]"'
        ) from error
    columns, n_epochs = read_columns(read_history(history).rows)
    n_val, best_epoch = check_count("n_val", n_val), check_epoch(best_epoch, n_epochs)
    figure = Figure(figsize=(7.2, 6.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    _draw_curves(loss, columns["loss"], columns["val_loss"])
    loss.set_ylabel(f"loss ({loss_unit})" if loss_unit else "loss")
    band = _draw_band(accuracy, columns["val_accuracy"], n_val)
    _draw_curves(accuracy, columns["accuracy"], columns["val_accuracy"], factor=100)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.set_xlabel("epoch")
    _limit_loss(loss, columns)
    _limit_accuracy(accuracy, columns, band)
    for axes in (loss, accuracy):
        _finish(axes, n_epochs, best_epoch)
    _add_legend(figure, (loss, accuracy))
    if title is not None:
        figure.suptitle(title, fontsize=12)
    if path is not None:
        with writing(path):
            figure.savefig(path)
    return figure


def _draw_curves(axes: "Axes", train: Column, validation: Column, factor: float = 1.0) -> None:
    for column, label, colour, style in (
        (train, "training", TRAIN_COLOUR, "--"),
        (validation, "validation", VALIDATION_COLOUR, "-"),
    ):
        # Epochs that recorded nothing are passed over, those without a number break the line.
        epochs = np.flatnonzero(column.recorded) + 1
        values = factor * column.values[column.recorded]
        finite = np.isfinite(values)
        if finite.any():
            axes.plot(
                epochs,
                np.where(finite, values, np.nan),
                style,
                color=colour,
                marker="o" if len(epochs) <= _FEW_EPOCHS else "",
                markersize=3,
                lw=1.4,
                label=label,
            )
        if not finite.all():
            axes.plot(
                epochs[~finite],
                np.full((~finite).sum(), 0.96),
                "x",
                color=colour,
                transform=axes.get_xaxis_transform(),
                label=f"{label}: not a number",
            )


def _draw_band(axes: "Axes", accuracy: Column, n_val: int | None) -> tuple[float, float] | None:
    if n_val is None or not accuracy.recorded.any():
        return None
    low, high = sampling_band(accuracy.values[accuracy.recorded], n_val)
    low, high = 100 * low, 100 * high
    at = np.flatnonzero(accuracy.recorded) + 1.0
    if len(at) == 1:  # a band needs some width to be seen
        at, low, high = at[0] + np.array([-0.25, 0.25]), low.repeat(2), high.repeat(2)
    label = f"95 % of sampling noise, {plural(n_val, 'window')}"
    axes.fill_between(at, low, high, color=VALIDATION_COLOUR, alpha=0.18, lw=0, label=label)
    return float(low.min()), float(high.max())


def _limit_loss(axes: "Axes", columns: Mapping[str, Column]) -> None:
    """Leave out what lies far above the rest, so that one explosion does not flatten the curve."""
    values = np.concatenate([columns["loss"].values, columns["val_loss"].values])
    values = values[np.isfinite(values)]
    if not values.size:
        axes.text(0.5, 0.5, "no loss recorded", transform=axes.transAxes, ha="center")
        return
    top = float(values.max())
    usual = 3 * float(np.quantile(values, 0.9))
    if top > usual > 0 and values.min() >= 0:
        axes.set_ylim(0, usual)
        n_above = int((values > usual).sum())
        note = f"{plural(n_above, 'value')} above, up to {top:.3g}"
        axes.annotate(note, (1, 1), xycoords="axes fraction", ha="right", va="bottom", fontsize=9)
    elif values.min() >= 0:
        axes.set_ylim(0, 1.06 * top or 1.0)


def _limit_accuracy(
    axes: "Axes", columns: Mapping[str, Column], band: tuple[float, float] | None
) -> None:
    values = 100 * np.concatenate([columns["accuracy"].values, columns["val_accuracy"].values])
    values = np.concatenate([values[np.isfinite(values)], band or ()])
    if not values.size:
        axes.text(0.5, 0.5, "no accuracy recorded", transform=axes.transAxes, ha="center")
        axes.set_ylim(0, 100)
        return
    axes.set_ylim(max(float(values.min()) - 4, -2), min(float(values.max()) + 4, 102))


def _finish(axes: "Axes", n_epochs: int, best_epoch: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if best_epoch is not None:
        label = f"weights kept: epoch {best_epoch}"
        axes.axvline(best_epoch, color=KEPT_COLOUR, lw=1.2, ls=":", label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, n_epochs + 0.5)
    axes.grid(alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _add_legend(figure: "Figure", panels: "Iterable[Axes]") -> None:
    """One legend for both panels, outside them: it can hide no part of a curve."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=2,
            fontsize=9.5,
            frameon=False,
        )
