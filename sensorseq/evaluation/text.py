"""Format tables, preparations and fits as text of at most 80 columns."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.base.text import listed, plural
from sensorseq.errors import printable
from sensorseq.readers.columns import describe_counters, describe_dropped, describe_packets

if TYPE_CHECKING:
    from sensorseq.estimator import AnyClassifier, SensorLSTMClassifier

WIDTH = 80
NO_INTERVAL = "no interval"
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "calibration_error": "calibration error",
    "gradient_boosting": "gradient boosting",
    "rocket_ridge": "MiniRocket ridge",
}
_MANY_CHANNELS = 16
_NO_BREAK = "\N{NO-BREAK SPACE}"
_SLOWER = 0.9  # recordings below this fraction of the common rate lack frequencies


def format_p_value(p_value: float) -> str:
    """Format a p-value with two digits, or as "< 0.001"."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Format rows in aligned columns; the columns in `right` are right-aligned."""
    everything = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    )


def format_interval(interval: Sequence[float], *, signed: bool = False) -> str:
    """Format an interval of fractions in percent, or of differences of fractions in points."""
    if not np.isfinite(interval).all():
        return NO_INTERVAL
    low, high = (100 * value for value in interval)
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"{low:.1f} to {high:.1f}"


def describe_fit(model: "SensorLSTMClassifier") -> list[str]:
    """Describe the windows that the final members of a fit were trained on."""
    sentences, choice = [], model.features_
    if (model.features or model.motors) and not choice.candidates:
        sentences.append(f"Features: none, because {choice.reason}.")
    if model.refitted_ and len(model.modules_) > model.n_models:
        sentences.append(
            f"The model keeps the networks of {len(model.modules_)} folds, which together were"
            " trained on all windows except the test part."
        )
    elif model.refitted_ and not model.model_.sum.uses_lstm:
        sentences.append(
            "The LSTM adds nothing to the features here, so the features decide alone. The"
            " features were fitted on all windows except the test part."
        )
    elif model.refitted_:
        sentences.append(
            "After this fit, the network was trained again on all windows except the test part."
        )
    return [*textwrap.wrap(" ".join(sentences), WIDTH), ""] if sentences else []


def describe_sensors(model: "AnyClassifier") -> list[str]:
    """Describe a fit on several sensors: each sensor's accuracy and the verdict on its curve."""
    from sensorseq.estimator import classifiers_of

    lines = [wrapped(f"Accuracy on {model.features_.reason}:")]
    for candidate in model.features_.candidates:
        weight = "" if candidate.weight is None else f"  weight {candidate.weight:.2f}"
        lines.append(f"  {candidate.name:<12} {100 * candidate.accuracy:5.1f} %{weight}")
    if not model.features_.candidates:
        lines = [wrapped(f"{model.features_.reason}.")]
    lines.append("")
    for name, classifier in classifiers_of(model).items():
        verdict = classifier.fluctuation_.verdict
        lines.append(wrapped(f"{name}: the curve of its LSTM is {verdict}"))
    return lines


def wrapped(text: str, indent: str = "") -> str:
    """Wrap text to 80 columns; lines after the first are indented further."""
    whole = printable(text).replace(" %", f"{_NO_BREAK}%")
    return textwrap.fill(
        whole,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    ).replace(_NO_BREAK, " ")


def format_channels(channels: Sequence[str]) -> str:
    """Format channel names; a long list becomes their number and the first and last names."""
    names = list(channels)
    if len(names) <= _MANY_CHANNELS:
        return f"channels {', '.join(names)}"
    shown = [*names[: _MANY_CHANNELS - 3], "...", *names[-2:]]
    return f"{len(names)} channels: {', '.join(shown)}"


def left_out(dropped: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each reason why segments or windows were left out, with their number."""
    salvaged: list[str] = []
    pieces: Counter[str] = Counter()
    windows: Counter[str] = Counter()
    for entry in dropped:
        if "kept_s" in entry:
            salvaged.append(f"salvaged: {entry['reason']}")
        elif entry.get("n_windows"):
            windows[entry["reason"]] += entry["n_windows"]
        else:
            pieces[entry["reason"]] += 1
    return [
        *salvaged,
        *(f"left out {count}: {reason}" for reason, count in pieces.items()),
        *(f"left out {count} windows: {reason}" for reason, count in windows.items()),
    ]


def format_summary(summary: Mapping[str, Any]) -> str:
    """Format the result of `PreparedSummary.to_dict`, with the reasons for what was left out."""
    headline = summary.get("headline", "")
    if summary.get("action") == "none":
        return "\n\n".join(map(wrapped, (headline, *_warnings(summary))))
    rate, source = summary["sample_rate_hz"], summary["sample_rate_from"]
    origin = (
        f"of {summary['window_samples']} samples at {rate:g} Hz ({source}), from"
        f" {summary['n_recordings']} recordings; {format_channels(summary['channels'])}"
    )
    if summary.get("sensors"):
        origin = f"of several sensors at their own rates, from {summary['n_recordings']} recordings"
    lines = [
        *([wrapped(headline)] if headline else []),
        wrapped(f"{summary['path']}: {summary['n_windows']} windows {origin}"),
        *(wrapped(f"  {text}") for text in summary.get("sensors", ())),
        "",
        format_counts(summary["counts"]),
    ]
    if summary["imbalance"]:
        lines += [wrapped(summary["imbalance"])]
    fitted = summary.get("n_fitted")
    if fitted:
        each = ", ".join(f"{name} {count}" for name, count in fitted.items())
        lines += [wrapped(f"Training uses {sum(fitted.values())} balanced windows: {each}.")]
    for warning in _warnings(summary):
        lines += ["", wrapped(warning)]
    if summary["dropped"]:
        lines.append("")
    lines += [wrapped(text) for text in left_out(summary["dropped"])]
    for name, count in summary["repaired_stamps"].items():
        if count and name != "n_spread":  # the line about packets contains `n_spread`
            words = name.removeprefix("n_").replace("_", " ")
            lines.append(wrapped(f"repaired {count} timestamps: {words}"))
    lines += map(wrapped, describe_packets(summary.get("packets", {})))
    for clock, count in summary.get("clocks", {}).items():
        lines.append(wrapped(f"{clock} in {plural(count, 'recording')}"))
    if held := summary.get("held"):
        lines.append(wrapped(f"held until the next value: {listed(map(repr, held), 6)}"))
    if summary["n_holes_filled"]:
        lines.append(wrapped(f"interpolated {summary['n_holes_filled']} short gaps"))
    if constant := [repr(name) for name in summary["constant_channels"]]:
        words = (
            f"{len(constant)} channels never change in training ({listed(constant, 3)}); they are"
            " kept and scaled by 1. To leave them out,"
            if len(constant) > 1
            else f"channel {constant[0]} never changes in training; it is kept and scaled by 1."
            " To leave it out,"
        )
        lines.append(wrapped(f"{words} name the others with --channels."))
    unlabeled = all(set(by_class) == {""} for by_class in summary["counts"].values())
    lines += map(wrapped, describe_dropped(summary["dropped_columns"], may_be_label=unlabeled))
    lines += map(wrapped, describe_counters(summary.get("counters", {})))
    if summary["n_reused"]:
        lines.append(f"{summary['n_reused']} recordings were reused from an earlier run")
    return "\n".join(lines)


def _warnings(summary: Mapping[str, Any]) -> Iterator[str]:
    for pair in summary["copies"]:
        (name, other), (part, other_part) = pair["recordings"], pair["parts"]
        yield (
            f"LEAK: {plural(pair['n_windows'], 'window')} of {other} ({other_part}) and of {name}"
            f" ({part}) are the same. Leave one of the recordings out with --exclude, or"
            " put both in one group in a manifest."
        )
    if simultaneous := summary.get("simultaneous"):
        yield simultaneous.replace("`pair`", "--pair").replace("pair='", "--pair '")
    if subjects := summary.get("subjects"):
        yield subjects.replace("`group_column`", "--group-column")
    yield from summary.get("odd_scales", ())
    yield from summary.get("odd_values", ())
    if zeros := summary.get("zero_windows", {}):
        yield (
            f"All samples are zero in {plural(sum(zeros.values()), 'window')},"
            f" {max(zeros.values())} of them in {max(zeros, key=lambda name: zeros[name])}:"
            " was the sensor connected?"
        )
    if gaps_s := summary.get("bridging_gaps_s", {}):
        yield (
            f"Because of gaps, windows cover less than half of"
            f" {plural(len(gaps_s), 'recording')}, such as {next(iter(gaps_s))}."
            f" --max-gap-s {max(gaps_s.values()):g} bridges most gaps."
        )
    yield from format_odd_rates(summary.get("odd_rates_hz", {}))
    lowest, highest = summary.get("own_rates_hz", (0.0, 0.0))
    common = summary["sample_rate_hz"]
    if lowest < _SLOWER * min(highest, common):
        yield (
            f"The recordings are sampled at {lowest:.4g} to {highest:.4g} Hz. Upsampling to"
            f" {common:g} Hz adds no high frequencies, and the network may classify by their"
            f" absence. Use --sample-rate-hz {lowest:.4g}, or leave the slow recordings out."
        )


def format_odd_rates(rates_hz: Mapping[str, float]) -> Iterator[str]:
    """Yield a warning if recordings have rates that suggest a wrong time unit."""
    if rates_hz:
        name, rate = next(iter(rates_hz.items()))
        yield (
            f"The sample rate of {plural(len(rates_hz), 'recording')} is unusual: {name} has"
            f" {rate:.4g} Hz. Check the unit of their timestamps; set it with --time-unit."
        )


def format_counts(counts: dict[str, dict[str, int]]) -> str:
    """Format the number of windows of each class and part as a table."""
    parts = list(counts)
    classes = list(next(iter(counts.values()), {}))
    rows: list[list[Any]] = [
        [name or "unlabeled", *(str(counts[part][name]) for part in parts)] for name in classes
    ]
    rows.append(["all", *(str(sum(counts[part].values())) for part in parts)])
    return table(["class", *parts], rows, right=range(1, len(parts) + 1))
