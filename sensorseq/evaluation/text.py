"""Scores and predictions as text of at most 80 columns."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.errors import printable
from sensorseq.readers.columns import describe_counters
from sensorseq.text import listed, plural

if TYPE_CHECKING:
    from sensorseq.estimator import SensorLSTMClassifier
    from sensorseq.evaluation.drives import DriveEvaluation
    from sensorseq.evaluation.evaluate import Comparison
    from sensorseq.evaluation.metrics import Evaluation
    from sensorseq.evaluation.predict import RecordingPrediction

WIDTH = 80
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "calibration_error": "calibration error",
    "gradient_boosting": "gradient boosting",
    "rocket_ridge": "MiniRocket ridge",
}
P_VALUE = (
    "paired sign-flip test by recording, of a difference in accuracy at least this large if model"
    " and baseline were equally good."
)
_MANY_RECORDINGS = 40
_MANY_CHANNELS = 16
_SLOWER = 0.9  # of the common rate, and of the fastest recording: its frequencies end lower


def format_comparison(comparison: "Comparison") -> str:
    """Return an evaluation as text: scores, baselines, confusions, recordings, notes."""
    model = comparison.model
    blocks = [wrapped(comparison.protocol)]
    blocks.append(_scores(model))
    if comparison.fold_accuracy:
        blocks.append(wrapped(describe_folds(comparison)))
    if comparison.baselines:
        blocks.append(_baselines(comparison))
    blocks.append(_confusion(model))
    blocks.append(_recordings(model))
    if comparison.drives is not None:
        words = wrapped(describe_drives(comparison.drives))
        blocks.append(f"{words}\n{table(['', *DRIVE_HEADS], drive_rows(comparison.drives))}")
    blocks += [wrapped(f"note: {note}") for note in comparison.notes]
    return "\n\n".join(blocks)


DRIVE_HEADS = ("% of time", "F1 (%)", "delay (s)", "false switches/h")


def describe_drives(drives: "DriveEvaluation") -> str:
    """Return what the scores of drives are."""
    return (
        f"Over time, in {plural(drives.n_recordings, 'recording')} with several classes. Smoothed"
        f" by {drives.told.smooth}; vote of {drives.n_votes} windows. F1 of stretches that overlap"
        " a true one by half; delay of true switches, without the time that a method waits. In"
        " brackets: 95 % intervals by recording."
    )


def drive_rows(drives: "DriveEvaluation") -> list[list[str]]:
    """Return a row for each way to decide: its name, and scores with intervals."""
    rows = []
    for name, found in drives.scores.items():
        cells = [name]
        for score, value in found.scores.items():
            factor = 100 if score in ("accuracy", "f1") else 1
            low, high = (factor * edge for edge in found.intervals[score])
            between = f" [{low:.0f}, {high:.0f}]" if np.isfinite([low, high]).all() else ""
            cells.append(f"{factor * value:.1f}{between}" if np.isfinite(value) else "-")
        rows.append(cells)
    return rows


def describe_folds(comparison: "Comparison") -> str:
    """Return the mean and spread of the fold accuracies, next to that of all windows together."""
    assert comparison.fold_mean is not None
    assert comparison.fold_sd is not None
    each = ", ".join(f"{100 * value:.1f}" for value in comparison.fold_accuracy)
    pooled = percent(comparison.model.scores["accuracy"])
    return (
        f"mean of the fold accuracies: {percent(comparison.fold_mean)}, sd"
        f" {100 * comparison.fold_sd:.1f} points ({each}); all windows together: {pooled}"
    )


def format_p_value(p_value: float) -> str:
    """Return a p-value with two digits, or as below 0.001."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"


def format_evaluation(evaluation: "Evaluation") -> str:
    """Return the scores, confusions and recordings of one classifier as text."""
    return "\n\n".join((_scores(evaluation), _confusion(evaluation), _recordings(evaluation)))


def format_prediction(prediction: "RecordingPrediction", *, every_window: bool) -> str:
    """Return one recording's prediction as text: the whole, then windows or spans of one label."""
    plain = prediction.to_dict()
    shares = sorted(plain["probability"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares[:4])
    lines = [
        printable(" + ".join(str(path) for path in prediction.paths))
        + (f": {prediction.recording_id}" if prediction.in_table else ""),
    ]
    spans = plain["spans"]
    if len({span["label"] for span in spans}) > 1:
        lines.append(wrapped(f"{_shares_of_time(spans)}, in {len(spans)} stretches", "  "))
    else:
        said = f"{plain['label']}  (mean of {plain['n_windows']} windows: {listed})"
        lines.append(wrapped(said, "  "))
    if len(spans) == 1 and str(plain["vote"]) != str(plain["label"]):
        lines.append(f"  the majority of its windows is classified as {plain['vote']}")
    lines += [wrapped(f"note: {note}", "  ") for note in prediction.notes]
    windows = [{**one, "start_s": one["start_s"] - plain["begins_s"]} for one in plain["windows"]]
    if plain["date"]:
        lines.append(f"  begins {plain['date']}; times are seconds from then")
    if every_window:
        rows = [
            [f"{w['start_s']:.2f}", str(w["label"]), percent(w["probability"][str(w["label"])])]
            for w in windows
        ]
        lines.append(textwrap.indent(table(["start (s)", "label", "probability"], rows), "  "))
    else:
        rows = []
        for span in spans:
            when = f"{span['start_s']:.1f} to {span['end_s']:.1f}"
            sure = percent(span["probability"])
            rows.append([when, str(span["n_windows"]), str(span["label"]), sure])
        heads = ["time (s)", "windows", "label", "mean probability"]
        lines.append(textwrap.indent(table(heads, rows, right=(1, 3)), "  "))
    return "\n".join(lines)


def _shares_of_time(spans: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the time each label takes, most first."""
    seconds: dict[str, float] = {}
    for span in spans:
        label = str(span["label"])
        seconds[label] = seconds.get(label, 0.0) + span["end_s"] - span["start_s"]
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{label} {percent(own / total)} of the time" for label, own in ranked[:4])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return rows in aligned columns; those in `right` are set to the right."""
    everything = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    )


def _baselines(comparison: "Comparison") -> str:
    from sensorseq.evaluation.metrics import compare

    rows = []
    for name, baseline in comparison.baselines.items():
        difference = compare(comparison.model, baseline)["accuracy"]
        low, high = difference.interval
        interval = "" if np.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
        rows.append(
            [
                NAMES.get(name, name),
                percent(baseline.scores["accuracy"]),
                percent(baseline.scores["balanced_accuracy"]),
                f"{100 * difference.value:+.1f}{interval}",
                format_p_value(difference.p_value),
            ]
        )
    heads = ["baseline", "accuracy", "balanced", "model minus baseline (points)", "p"]
    return f"{table(heads, rows)}\n{wrapped(f'p: {P_VALUE}')}"


def score_rows(evaluation: "Evaluation") -> list[list[str]]:
    """Return name, score and interval of each score that is known."""
    return [
        [NAMES[name], percent(evaluation.scores[name]), format_interval(evaluation.intervals[name])]
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
        if np.isfinite(evaluation.scores[name])
    ]


def _scores(evaluation: "Evaluation") -> str:
    return table(["", "score", "95 % interval by recording"], score_rows(evaluation))


def _confusion(evaluation: "Evaluation") -> str:
    names = [str(name) for name in evaluation.classes.tolist()]
    matrix = evaluation.confusion_matrix
    recall = [
        percent(matrix[i, i] / matrix[i].sum()) if matrix[i].sum() else "-"
        for i in range(len(names))
    ]
    for length in (12, 8, 5, 3):
        short = [name[:length] for name in names]
        rows = [
            [names[i][:16], *(str(count) for count in matrix[i].tolist()), recall[i]]
            for i in range(len(names))
        ]
        text = table(["true \\ predicted", *short, "recall"], rows, right=range(1, len(names) + 2))
        if max(len(line) for line in text.splitlines()) <= WIDTH:
            return text
    rows = [[name, *recall[i : i + 1]] for i, name in enumerate(names)]
    return table(["class", "recall"], rows, right=(1,)) + "\n(--json has the confusion matrix)"


def _recordings(evaluation: "Evaluation") -> str:
    rows = [
        [
            row.recording_id if len(row.recording_id) <= 34 else "..." + row.recording_id[-31:],
            str(row.n_windows),
            percent(row.accuracy),
            "correct" if row.label == row.predicted else f"wrong: {row.predicted}",
        ]
        for row in evaluation.recordings
        if row.label is not None
    ]
    judged = [row for row in evaluation.recordings if row.label is not None]
    if not judged:
        return "every recording has windows of several classes"
    n_right = sum(row.label == row.predicted for row in judged)
    head = f"recordings classified correctly: {n_right} of {len(judged)}"
    if len(rows) > _MANY_RECORDINGS:
        wrong = [row for row in rows if row[3] != "correct"]
        rows, head = wrong[:_MANY_RECORDINGS], f"{head}; the others:"
    heads = ["recording", "windows", "accuracy", "by mean probability"]
    return f"{head}\n{table(heads, rows, right=(1, 2))}" if rows else head


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f} %"


def format_interval(interval: Sequence[float], *, signed: bool = False) -> str:
    """Return an interval of shares in percent, or of their differences in points."""
    if not np.isfinite(interval).all():
        return "no interval"
    low, high = (100 * value for value in interval)
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"{low:.1f} to {high:.1f}"


def describe_fit(model: "SensorLSTMClassifier") -> list[str]:
    """Say what the linear layer uses, and what was trained on."""
    said, choice = [], model.features_
    if choice.candidates:
        alone, together = choice.candidates[0], choice.candidates[-1]
        said.append(
            f"Features: {' and '.join(choice.names) or 'none'}. Accuracy on {choice.n_windows}"
            f" windows left out: {100 * together.accuracy:.1f} %, LSTM alone"
            f" {100 * alone.accuracy:.1f} %. The report above is about the LSTM alone."
        )
    elif model.features is not None:
        said.append(f"Features: none, because {choice.reason}.")
    if model.refitted_ and len(model.modules_) > model.n_models:
        said.append(
            f"The model keeps the networks of {len(model.modules_)} folds, which together have"
            " learned from all windows but those for test."
        )
    elif model.refitted_ and not model._used_modules:
        said.append(
            "The LSTM adds too little to the features here, so they decide alone. They have"
            " learned from all windows but those for test."
        )
    elif model.refitted_:
        said.append("After that, the network was trained again on all windows but those for test.")
    return [*textwrap.wrap(" ".join(said), WIDTH), ""] if said else []


def wrapped(text: str, indent: str = "") -> str:
    """Return the text in lines of at most 80 columns, all but the first indented."""
    return textwrap.fill(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def format_channels(channels: Sequence[str]) -> str:
    """Return the names after their number; of many, the first and the last."""
    names = list(channels)
    if len(names) <= _MANY_CHANNELS:
        return f"channels {', '.join(names)}"
    shown = [*names[: _MANY_CHANNELS - 3], "...", *names[-2:]]
    return f"{len(names)} channels: {', '.join(shown)}"


def left_out(dropped: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each reason: the number of pieces of recordings, or of windows."""
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
    """Return `PreparedSummary.to_dict` as text: what was cut, and what was left out and why."""
    headline = summary.get("headline", "")
    if summary.get("action") == "none":
        return "\n\n".join(map(wrapped, (headline, *_warnings(summary))))
    rate, resampled = summary["sample_rate_hz"], summary["resampled_to_hz"]
    source = summary["sample_rate_from"]
    if resampled and resampled != rate:
        source = f"after steps at {resampled:g} Hz, {source}"
    lines = [
        *([wrapped(headline)] if headline else []),
        wrapped(
            f"{summary['path']}: {summary['n_windows']} windows of {summary['window_samples']}"
            f" samples at {rate:g} Hz ({source}), from {summary['n_recordings']} recordings;"
            f" {format_channels(summary['channels'])}"
        ),
        *(wrapped(text) for text in summary.get("derived", ())),
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
        if count:
            words = name.removeprefix("n_").replace("_", " ")
            lines.append(wrapped(f"repaired {count} timestamps: {words}"))
    for clock, count in summary.get("clocks", {}).items():
        lines.append(wrapped(f"{clock} in {count} recording(s)"))
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
    unlabelled = all(set(by_class) == {""} for by_class in summary["counts"].values())
    for name, count in summary["dropped_columns"].items():
        lines.append(
            wrapped(
                f"column {name!r} of {count} recording(s) is not numeric and was skipped"
                + (f"; if it is the label, use --label-column {name}" if unlabelled else "")
            )
        )
    lines += map(wrapped, describe_counters(summary.get("counters", {})))
    if summary["n_reused"]:
        lines.append(f"{summary['n_reused']} recordings were reused from an earlier run")
    return "\n".join(lines)


def _warnings(summary: Mapping[str, Any]) -> Iterator[str]:
    for pair in summary["copies"]:
        (one, other), (part, other_part) = pair["recordings"], pair["parts"]
        yield (
            f"LEAK: {pair['n_windows']} window(s) of {other} ({other_part}) are exact copies of"
            f" windows of {one} ({part}). Leave one of the recordings out with --exclude, or"
            " put both in one group in a manifest."
        )
    yield from summary.get("odd_scales", ())
    if zeros := summary.get("zero_windows", {}):
        yield (
            f"All samples are zero in {sum(zeros.values())} window(s), {max(zeros.values())} of"
            f" them in {max(zeros, key=lambda name: zeros[name])}: was the sensor connected?"
        )
    if gaps_s := summary.get("bridging_gaps_s", {}):
        yield (
            f"Gaps leave less than half of {len(gaps_s)} recording(s) in windows, such as"
            f" {next(iter(gaps_s))}. --max-gap-s {max(gaps_s.values()):g} bridges most of them."
        )
    yield from format_odd_rates(summary.get("odd_rates_hz", {}))
    lowest, highest = summary.get("own_rates_hz", (0.0, 0.0))
    resampled = summary["resampled_to_hz"]
    if lowest < _SLOWER * min(highest, resampled):
        yield (
            f"The recordings are sampled at {lowest:.4g} to {highest:.4g} Hz. Upsampling those"
            f" below {resampled:g} Hz adds no high frequencies, and the network may classify"
            f" by that: use --sample-rate-hz {lowest:.4g}, or leave them out."
        )


def format_odd_rates(rates_hz: Mapping[str, float]) -> Iterator[str]:
    """Yield a warning if recordings have rates that a wrong unit of time would explain."""
    if rates_hz:
        name, rate = next(iter(rates_hz.items()))
        yield (
            f"{len(rates_hz)} recording(s) have an unusual sample rate, such as {name} with"
            f" {rate:.4g} Hz. Check the unit of their time stamps; set it with --time-unit."
        )


def format_counts(counts: dict[str, dict[str, int]]) -> str:
    """Return windows by part (rows) and class (columns), or by class when those are too many."""
    parts = list(counts)
    classes = list(next(iter(counts.values()), {}))
    rows: list[list[Any]] = [
        [name or "unlabelled", *(str(counts[part][name]) for part in parts)] for name in classes
    ]
    rows.append(["all", *(str(sum(counts[part].values())) for part in parts)])
    return table(["class", *parts], rows, right=range(1, len(parts) + 1))
