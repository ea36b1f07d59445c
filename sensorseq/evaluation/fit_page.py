"""Make an HTML page about a fit: verdict, next steps, scores, confusion matrix and examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sensorseq.base.text import percent
from sensorseq.diagnosis.report_page import Figure, describe
from sensorseq.diagnosis.report_text import Command
from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.baselines import predict_baseline
from sensorseq.evaluation.comparison_text import (
    DRIVE_HEADS,
    P_VALUE,
    describe_drives,
    describe_folds,
    drive_rows,
)
from sensorseq.evaluation.drives import DriveEvaluation
from sensorseq.evaluation.evaluate import Comparison, scorer
from sensorseq.evaluation.metrics import METRICS, Evaluation, compare
from sensorseq.evaluation.text import NAMES, format_interval, format_p_value
from sensorseq.html.render import render
from sensorseq.html.svg import Panel, sparkline
from sensorseq.prediction.members.motors import MOTORS, MotorsMember
from sensorseq.sequence.strips import MOST_SPANS, named_colors, strip_of
from sensorseq.sequence.timeline import spans_by_recording
from sensorseq.windows import WindowSet

_MAX_CLASSES = 20  # more rows of the matrix and more examples would be unreadable
_MAX_RECORDINGS = 120
_MOST_MOTORS = 5
_MAX_CHANNELS = 6
_MAX_DRIVES = 20
_MAX_POINTS = 160
_REGIONS = 8  # number of time intervals in the explanation of a window
_NAMES = {
    **NAMES,
    "majority": "majority class",
    "ridge": "ridge on summary features",
    "gradient_boosting": "gradient boosting on summary features",
    "rocket_ridge": "MiniRocket + ridge",
}


@dataclass(frozen=True, eq=False)
class PagePart:
    """The windows of one part that a page shows, with their predictions."""

    name: str
    windows: WindowSet
    probability: NDArray[np.float64]
    evaluation: Evaluation

    @classmethod
    def of(cls, model: SensorLSTMClassifier, windows: WindowSet, name: str) -> "PagePart | None":
        """Predict one part of the windows; return None if there are no windows to show."""
        if windows.split is None or windows.y is None or not (windows.split == name).any():
            return None
        part = windows.part(name)
        is_known = np.isin(np.asarray(part.y), model.classes_)
        part = part.take(is_known)
        if not len(part):
            return None
        if name == "validation" and model.refitted_:  # a refitted model was trained on this part
            before = model.held_out_predictions(len(part))
            if before is None:
                return None
            rows, probability = before
            part = part.take(rows)
        else:
            probability = model.predict_proba(part)
        evaluation = scorer(part, model.classes_)(probability)
        return cls(name, part, probability, evaluation)


def make_page(
    model: SensorLSTMClassifier,
    part: PagePart | None,
    *,
    title: str,
    comparison: Comparison | None = None,
    command: Command | None = None,
    scores_first: bool = False,
    template: str = "fit.html",
    **more: Any,
) -> str:
    """Return a self-contained HTML page with a light and a dark theme, readable without scripts.

    The examples are windows of `part`. After a fit, the examples are validation windows; the page
    states that these windows were also used to choose the epoch. Without `comparison`, the scores
    are also computed on these windows. `command` returns the command line of a fit with changed
    arguments; without `command`, the changes are shown as Python. `scores_first` puts the scores
    first, for pages that are not about the fit. `template` extends fit.html and needs the values in
    `more`.
    """
    evaluation = comparison.model if comparison else part.evaluation if part else None
    unit = "nats" if model.loss == "cross_entropy" else ""
    return render(
        template,
        **describe(model.fluctuation_, command, loss_unit=unit),
        title=title,
        heading=title,
        scores_first=scores_first,
        scores=None if evaluation is None else _scores(model, evaluation, comparison),
        matrix=None if evaluation is None else _matrix(evaluation),
        recordings=None if evaluation is None else _recordings(evaluation),
        reliability=None if evaluation is None else _reliability(evaluation),
        **_over_time(None if comparison is None else comparison.drives),
        examples=None if part is None else _examples(model, part),
        motors=_motors(model),
        facts=_facts(model),
        **more,
    )


def compare_on_validation(
    model: SensorLSTMClassifier,
    part: PagePart,
    windows: WindowSet,
    baselines: Sequence[str] = ("majority", "ridge"),
) -> Comparison:
    """Compare a fit with baselines on the validation part; the test part is not read."""
    train, held_out = windows.part("train"), part.windows
    score = scorer(held_out, model.classes_)
    scored = {
        name: score(predict_baseline(name, train, held_out, model.classes_)) for name in baselines
    }
    protocol = (
        f"validation part: {part.evaluation.n_windows} windows of"
        f" {len(part.evaluation.recordings)} recordings"
    )
    return Comparison(part.evaluation, scored, protocol, (_validation_caution(model),))


def _scores(
    model: SensorLSTMClassifier,
    evaluation: Evaluation,
    comparison: Comparison | None,
) -> dict[str, Any]:
    protocol = (
        f"Measured on the {evaluation.n_windows} validation windows of"
        f" {len(evaluation.recordings)} recordings."
    )
    notes: tuple[str, ...] = (_validation_caution(model),)
    if comparison is not None:
        notes = comparison.notes
        protocol = f"{_capitalized(comparison.protocol)}."
        if comparison.fold_accuracy:
            protocol += f" {_capitalized(describe_folds(comparison))}."
    return {
        "words": protocol,
        "cards": [
            (
                percent(evaluation.scores[name]),
                _NAMES[name],
                format_interval(evaluation.intervals[name]),
            )
            for name in METRICS
        ],
        "notes": notes,
        "heads": [_NAMES[name] for name in METRICS],
        "baselines": [] if comparison is None else _baselines(comparison),
        "p_value": P_VALUE,
    }


def _validation_caution(model: SensorLSTMClassifier) -> str:
    uses = []
    if model.early_stopping or model.restore_best:
        uses.append("select the best epoch")
    if model.features_.candidates:
        uses.append("determine the weights of the features")
    advice = "Use sensorseq evaluate to score test recordings."
    if model.refitted_:
        advice = f"The scored networks were not trained on these windows. {advice}"
    if not uses:
        return advice
    return (
        f"These windows were also used to {' and '.join(uses)}, so the scores are slightly"
        f" inflated. {advice}"
    )


def _baselines(comparison: Comparison) -> list[list[str]]:
    rows = []
    for name, baseline in comparison.baselines.items():
        difference = compare(comparison.model, baseline)["accuracy"]
        interval = format_interval(difference.interval, signed=True)
        rows.append(
            [
                _NAMES.get(name, name),
                *(percent(baseline.scores[metric]) for metric in METRICS),
                f"{100 * difference.value:+.1f} {interval}",
                format_p_value(difference.p_value),
            ]
        )
    return rows


def _matrix(evaluation: Evaluation) -> dict[str, Any]:
    names = [str(name) for name in evaluation.classes.tolist()]
    matrix = evaluation.confusion_matrix
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [
        (
            name,
            [(f"{share[i, j]:.3f}", matrix[i, j] or "·") for j in range(len(names))],
            percent(share[i, i]),
        )
        for i, name in enumerate(names)
    ]
    predicted = matrix.sum(axis=0)
    return {
        "names": names,
        "rows": rows,
        "precision": [
            percent(matrix[i, i] / predicted[i]) if predicted[i] else "·" for i in range(len(names))
        ],
        "is_shown": len(names) <= _MAX_CLASSES,
    }


def _reliability(evaluation: Evaluation) -> Figure | None:
    """Draw a reliability diagram, or return None if the predictions are not probabilities."""
    if not evaluation.reliability:
        return None
    counts, probability, accuracy = np.array(evaluation.reliability).T
    panel = Panel(
        "Fraction of correct predictions against their probability",
        (0.0, 1.0),
        (0.0, 1.0),
        "probability of the predicted class",
        "fraction correct",
        width=380,
        height=300,
        x_whole=False,
    )
    panel.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "best")
    panel.line(probability, accuracy, "measured")
    panel.dots(probability, accuracy, "measured", 4.0)
    least, most = int(counts.min()), int(counts.max())
    windows = str(least) if least == most else f"{least} to {most}"
    error = evaluation.scores["calibration_error"]
    return Figure(
        Markup(panel.render()),
        "Are the probabilities correct?",
        f"Each dot stands for {windows} windows of similar probability. On the dashed line, the"
        " probabilities are correct; below it, the model is overconfident."
        + (
            f" On average, the probabilities are {100 * error:.1f} points off."
            if np.isfinite(error)
            else ""
        ),
    )


def _recordings(evaluation: Evaluation) -> dict[str, Any]:
    rows = list(evaluation.recordings)
    shown = rows
    if len(rows) > _MAX_RECORDINGS:
        shown = sorted(rows, key=lambda row: row.accuracy)[:_MAX_RECORDINGS]
    right = evaluation.scores["recording_mean"]
    return {
        "summary": f"{100 * right:.0f} % of the recordings are classified correctly by the mean"
        " probability of their windows."
        if np.isfinite(right)
        else "",
        "shown": shown,
        "n_left": len(rows) - len(shown),
    }


def _over_time(drives: DriveEvaluation | None) -> dict[str, Any]:
    """Return the scores of drives, and strips of the first recordings with several classes."""
    if drives is None:
        return {"drive_scores": None}
    classes = drives.predicted.classes.tolist()
    predicted, true = (spans_by_recording(t.spans) for t in (drives.predicted, drives.true))
    several = [name for name, spans in true.items() if len({span.label for span in spans}) > 1]
    shown = several[:_MAX_DRIVES]
    return {
        "drive_scores": {
            "words": describe_drives(drives),
            "heads": ["", *DRIVE_HEADS],
            "rows": drive_rows(drives),
        },
        "strips": {
            "classes": named_colors(classes),
            "drives": [strip_of(name, predicted[name], true[name], classes) for name in shown],
            "n_left": len(several) - len(shown),
        },
        "most_spans": MOST_SPANS,
    }


def _examples(model: SensorLSTMClassifier, part: PagePart) -> dict[str, Any]:
    windows = part.windows
    names = list(windows.channels)[:_MAX_CHANNELS]
    scaled: NDArray[Any] = windows.X
    if model.scaler_ is not None:
        scaled = model.scaler_.transform(scaled, windows.lengths)
    X = np.asarray(scaled[:, :, : len(names)], np.float64)
    labels = np.asarray(windows.y)
    predicted = model.classes_[part.probability.argmax(axis=1)]
    chosen = {
        label: _choose(labels, predicted, part, label, index)
        for index, label in enumerate(model.classes_.tolist()[:_MAX_CLASSES])
    }
    rows = [row for captions in chosen.values() for row, _ in captions]
    explained = model.explain(windows.take(rows), n_regions=_REGIONS)
    assert not isinstance(explained, dict)  # pages are about one sensor
    shares = dict(zip(rows, explained.shares, strict=True))
    classes = []
    for label, captions in chosen.items():
        cells = [
            (
                _spark(X, windows, row, str(label), shares[row].sum(axis=1)),
                f"{words}, {_main_channel(shares[row], windows.channels)}",
                place,
            )
            for row, (words, place) in captions
        ]
        if cells:
            classes.append((label, cells))
    cut = len(windows.channels) - len(names)
    seconds = ""
    if windows.sample_rate_hz:
        seconds = f" of {windows.n_timesteps / windows.sample_rate_hz:.3g} s"
    return {
        "words": f"For each class, three {part.name} windows{seconds}: the most confident correct"
        " one, the least confident correct one, and a misclassified one. All channels have the same"
        " scale, and each has its own row. The darker a time interval is, the more the decision"
        " depends on it. The caption names the channel that counts most, and its percentage."
        + (
            f" Only the first {len(names)} of {len(windows.channels)} channels are shown."
            if cut
            else ""
        ),
        "classes": classes,
    }


def _choose(
    labels: NDArray[Any], predicted: NDArray[Any], part: PagePart, label: Any, index: int
) -> list[tuple[int, tuple[str, str]]]:
    """Return up to three windows of a class, each with a caption of two lines."""
    members = np.flatnonzero(labels == label)
    confidence = part.probability[members, index]
    right = members[predicted[members] == label]
    wrong = members[predicted[members] != label]
    chosen: list[tuple[int, str]] = []
    if right.size:
        order = right[np.argsort(part.probability[right, index], kind="stable")]
        clear, close = int(order[-1]), int(order[0])
        chosen.append((clear, f"correct, {percent(part.probability[clear, index], 0)} confident"))
        if close != clear:
            chosen.append(
                (close, f"correct, {percent(part.probability[close, index], 0)} confident")
            )
    if wrong.size:
        at = np.argmin(np.where(predicted[members] != label, confidence, np.inf))
        row = int(members[at])
        highest = part.probability[row].max()
        chosen.append((row, f"predicted {predicted[row]}, {percent(highest, 0)} confident"))
    ids, starts = part.windows.recording_id, part.windows.start_s
    captions = []
    for row, words in chosen:
        when = "" if starts is None else f", {starts[row]:.1f} s"
        lines = (f"{words}{when}", "") if ids is None else (words, f"{ids[row]}{when}")
        captions.append((row, lines))
    return captions


def _main_channel(shares: NDArray[np.float64], channels: Sequence[str]) -> str:
    of_channel = shares.sum(axis=0)
    best = int(of_channel.argmax())
    return f"{channels[best]} counts most ({percent(of_channel[best], 0)})"


def _spark(
    X: NDArray[np.float64],
    windows: WindowSet,
    row: int,
    label: str,
    shares: NDArray[np.float64],
) -> Markup:
    length = max(int(np.asarray(windows.lengths)[row]), 1)
    if length < windows.n_timesteps:  # the regions include padding, which is not drawn
        shares = shares[:0]
    keep = np.unique(np.linspace(0, length - 1, min(length, _MAX_POINTS)).astype(np.int64))
    low, high = (float(v) for v in np.percentile(X, [0.5, 99.5]))
    if not high > low:
        low, high = low - 1, high + 1
    channels: Sequence[NDArray[np.float64]] = [X[row, keep, c] for c in range(X.shape[2])]
    title = f"window of class {label}"
    return Markup(
        sparkline(
            channels,
            (low, high),
            title,
            shares=shares.tolist(),
            lanes=windows.channels[: X.shape[2]],
        )
    )


def _motors(model: SensorLSTMClassifier) -> dict[str, Any] | None:
    """Return the features of motors that trees test most often, with their mean in each class."""
    member = model.model_.sum.members.get(MOTORS)
    if not isinstance(member, MotorsMember):
        return None
    rows = [
        (name, [f"{mean:.3g}" for mean in means]) for name, means in member.most_used(_MOST_MOTORS)
    ]
    return {"classes": [str(name) for name in model.classes_.tolist()], "rows": rows}


def _facts(model: SensorLSTMClassifier) -> dict[str, str]:
    report, preparation = model.fluctuation_, model.preparation_
    facts: dict[str, str] = {
        "classes": ", ".join(str(name) for name in model.classes_.tolist()),
        "training windows": str(report.n_train),
        "validation windows": str(report.n_val) if report.n_val else "none",
        "epochs": f"{model.n_iter_}; the weights of epoch {model.best_epoch_} were kept",
        "features": " and ".join(model.features_.names) or "none",
        "learned from": "training and validation windows"
        if model.refitted_
        else "training windows",
        "network": f"{model.num_layers} LSTM layer(s) of {model.hidden_size} units,"
        f" {sum(p.numel() for p in model.module_.parameters())} parameters",
        "training": f"{model.optimizer}, learning rate {model.learning_rate:g},"
        f" batches of {model.batch_size}",
    }
    if preparation is not None:
        rate = preparation["sample_rate_hz"]
        facts["channels"] = ", ".join(preparation["channels"])
        facts["windows"] = f"{preparation['n_timesteps']} samples" + (
            f" at {rate:g} Hz" if rate else ""
        )
        facts["recordings trained on"] = str(len(preparation["recordings"]))
    return facts


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
