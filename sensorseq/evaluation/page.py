"""One HTML page about a fit: verdict, scores, learning curve, confusions, recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.evaluate import Comparison
from sensorseq.evaluation.metrics import METRICS, Evaluation, compare, score_predictions
from sensorseq.evaluation.text import P_VALUE, describe_folds, format_p_value
from sensorseq.fluctuation.curves import describe_band, draw_curves
from sensorseq.fluctuation.page import make_banner, make_reasons
from sensorseq.html.style import STYLE
from sensorseq.html.svg import sparkline
from sensorseq.preprocessing.keyed_scale import transform_windows
from sensorseq.windows import WindowSet

_MAX_CLASSES = 20  # of the matrix and the examples; a page is for reading
_MAX_RECORDINGS = 120
_MAX_CHANNELS = 6
_MAX_POINTS = 160
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "majority": "majority class",
    "ridge": "ridge on summary features",
    "gradient_boosting": "gradient boosting on summary features",
    "rocket_ridge": "MiniRocket + ridge",
}


@dataclass(frozen=True, eq=False)
class PagePart:
    """The windows a page shows, and how they were predicted.

    Parameters
    ----------
    name : {"validation", "test"}
        Which part.
    windows : WindowSet
        Its windows.
    probability : ndarray of shape (n, K)
        Predicted.
    evaluation : Evaluation
        The scores of `probability`.
    """

    name: str
    windows: WindowSet
    probability: NDArray[np.float64]
    evaluation: Evaluation

    @classmethod
    def of(cls, model: SensorLSTMClassifier, windows: WindowSet, name: str) -> "PagePart | None":
        """Predict one part; None when the windows have no such part."""
        if windows.split is None or windows.y is None or not (windows.split == name).any():
            return None
        part = windows.part(name)
        known = np.isin(np.asarray(part.y), model.classes_)
        part = part.take(known)
        if not len(part):
            return None
        if name == "validation" and model.refitted_:  # which has seen them since
            before = model.held_out_predictions(len(part))
            if before is None:
                return None
            rows, probability = before
            part = part.take(rows)
        else:
            probability = model.predict_proba(part)
        evaluation = score_predictions(
            np.asarray(part.y),
            probability,
            model.classes_,
            recording_id=part.recording_id,
            groups=part.groups,
        )
        return cls(name, part, probability, evaluation)


def make_page(
    model: SensorLSTMClassifier,
    part: PagePart | None,
    *,
    title: str,
    comparison: Comparison | None = None,
) -> str:
    """Return a self-contained HTML page, without scripts or downloads, in light and dark.

    Parameters
    ----------
    model : SensorLSTMClassifier
        Fitted.
    part : PagePart or None
        The windows to show examples from. After a fit these are the validation windows, which also
        chose the epoch, as the page states; without `comparison` the scores come from them too.
    title : str
        Heading, such as the name of the model file.
    comparison : Comparison, optional
        Result of an evaluation: scores, confusions and recordings, next to baselines.
    """
    evaluation = comparison.model if comparison else part.evaluation if part else None
    sections = [_verdict(model), _scores(model, evaluation, comparison), _curves(model)]
    if evaluation is not None:
        sections += [_matrix(evaluation), _recordings(evaluation)]
    if part is not None:
        sections.append(_examples(model, part))
    sections.append(_facts(model))
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def _verdict(model: SensorLSTMClassifier) -> str:
    report = model.fluctuation_
    return f"<section>{make_banner(report)}{make_reasons(report.explanation)}</section>"


def _scores(
    model: SensorLSTMClassifier, evaluation: Evaluation | None, comparison: Comparison | None
) -> str:
    if evaluation is None:
        return "<section><h2>Scores</h2><p>There was no validation part.</p></section>"
    cards = "".join(
        f'<div class="card"><span class="value">{_percent(evaluation.scores[name])}</span>'
        f'<span class="name">{_NAMES[name]}</span>'
        f'<span class="interval">{_interval(evaluation.intervals[name])}</span></div>'
        for name in METRICS
    )
    if comparison is not None:
        what = f"{comparison.protocol[0].upper()}{comparison.protocol[1:]}."
        if comparison.fold_accuracy:
            folds = describe_folds(comparison)
            what += f" {folds[0].upper()}{folds[1:]}."
        notes = "".join(f'<p class="caution">{escape(note)}</p>' for note in comparison.notes)
        table = _baselines(comparison)
    else:
        what = (
            f"Measured on the {evaluation.n_windows} validation windows of"
            f" {len(evaluation.recordings)} recordings."
        )
        notes = f'<p class="caution">{_validation_caution(model)}</p>'
        table = ""
    return (
        f'<section><h2>Scores</h2><p>{escape(what)}</p><div class="cards">{cards}</div>{notes}'
        f'{table}<p class="small">95 % intervals from resampling whole groups of recordings,'
        " because windows of one recording are similar.</p></section>"
    )


def _validation_caution(model: SensorLSTMClassifier) -> str:
    """Say how far scores on the validation part can be trusted."""
    ways = []
    if model.early_stopping or model.restore_best:
        ways.append("selected the best epoch")
    if model.features_.candidates:
        ways.append("weighed the features")
    way_out = "Use <code>sensorseq evaluate</code> to score test recordings."
    if model.refitted_:
        way_out = f"The scores are by networks that were not trained on them. {way_out}"
    if not ways:
        return way_out
    return (
        f"These windows also {' and '.join(ways)}, so the scores are slightly inflated. {way_out}"
    )


def _baselines(comparison: Comparison) -> str:
    rows = []
    for name, baseline in comparison.baselines.items():
        difference = compare(comparison.model, baseline)["accuracy"]
        rows.append(
            f"<tr><th>{escape(_NAMES.get(name, name))}</th>"
            + "".join(f"<td>{_percent(baseline.scores[metric])}</td>" for metric in METRICS)
            + f"<td>{100 * difference.value:+.1f}"
            f" {_interval(difference.interval, signed=True)}</td>"
            f"<td>{escape(format_p_value(difference.p_value))}</td></tr>"
        )
    if not rows:
        return ""
    heads = "".join(f"<th>{_NAMES[metric]}</th>" for metric in METRICS)
    return (
        '<div class="scroll"><table><thead><tr><th>baseline</th>'
        f"{heads}<th>model minus baseline (accuracy, points)</th><th>p</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="small">p: {escape(P_VALUE)}</p>'
    )


def _curves(model: SensorLSTMClassifier) -> str:
    report = model.fluctuation_
    figure = draw_curves(
        model.history_.to_columns(),
        n_val=report.n_val,
        best_epoch=model.best_epoch_,
        evidence=report.evidence,
        loss_unit="nats" if model.loss == "cross_entropy" else "",
    )
    alone = ""
    if model.features_.names:
        kinds = " and ".join(model.features_.names)
        alone = f"<p>Of the LSTM alone, without the {kinds} features of the linear layer.</p>"
    return f"<section><h2>Learning curve</h2>{alone}{figure}{describe_band(report.n_val)}</section>"


def _matrix(evaluation: Evaluation) -> str:
    names = [str(name) for name in evaluation.classes.tolist()]
    if len(names) > _MAX_CLASSES:
        return (
            f"<section><h2>Confusions</h2><p>{len(names)} classes are too many for a table;"
            " <code>sensorseq evaluate --json</code> writes the matrix.</p></section>"
        )
    matrix = evaluation.confusion_matrix
    total = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    share = matrix / total
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f'<td class="{"right" if i == j else "wrong"}" style="--share:{share[i, j]:.3f}">'
            f"{matrix[i, j] or '·'}</td>"
            for j in range(len(names))
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}<td>{_percent(share[i, i])}</td></tr>")
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        f"<section><h2>Confusions</h2><p>Windows by true class (rows)"
        ' and predicted class (columns).</p><div class="scroll"><table class="matrix"><thead><tr>'
        f"<th>true \\ predicted</th>{heads}<th>recall</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _recordings(evaluation: Evaluation) -> str:
    rows = evaluation.recordings
    shown = sorted(rows, key=lambda row: row.accuracy)[:_MAX_RECORDINGS]
    if len(rows) <= _MAX_RECORDINGS:
        shown = list(rows)
    body = "".join(
        f"<tr><th>{escape(row.recording_id)}</th><td>{escape(str(row.label or 'several'))}</td>"
        f'<td class="number">{row.n_windows}</td><td><div class="bar"><span'
        f' style="width:{100 * row.accuracy:.1f}%"></span></div></td>'
        f'<td class="number">{_percent(row.accuracy)}</td>'
        f"<td>{_said(row.label, row.predicted)}</td></tr>"
        for row in shown
    )
    left = len(rows) - len(shown)
    more = f"<p>{left} more recordings, all at least as good, are not shown.</p>" if left else ""
    right = evaluation.scores["recording_mean"]
    summary = (
        f"<p>{100 * right:.0f} % of the recordings are classified correctly by the mean"
        " probability of their windows.</p>"
        if np.isfinite(right)
        else ""
    )
    return (
        f'<section><h2>Recordings</h2>{summary}<div class="scroll">'
        '<table class="recordings"><thead><tr><th>recording</th><th>class</th><th>windows</th>'
        '<th colspan="2">windows correct</th><th>recording</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}</section>"
    )


def _said(label: Any, predicted: Any) -> str:
    if label is None:
        return escape(str(predicted))
    if label == predicted:
        return '<span class="good">✓</span>'
    return f'<span class="bad">✗</span> {escape(str(predicted))}'


def _examples(model: SensorLSTMClassifier, part: PagePart) -> str:
    windows = part.windows
    names = list(windows.channels)[:_MAX_CHANNELS]
    X = windows.X if model.scaler_ is None else transform_windows(model.scaler_, windows)
    X = np.asarray(X[:, :, : len(names)], np.float64)
    labels = np.asarray(windows.y)
    predicted = model.classes_[part.probability.argmax(axis=1)]
    rows = []
    for index, label in enumerate(model.classes_.tolist()[:_MAX_CLASSES]):
        cells = [
            f"<figure>{_spark(X, windows, row, str(label))}"
            f"<figcaption>{words}</figcaption></figure>"
            for row, words in _choose(labels, predicted, part, label, index)
        ]
        if cells:
            rows.append(
                f'<h3>{escape(str(label))}</h3><div class="examples">{"".join(cells)}</div>'
            )
    legend = "".join(
        f'<span><svg class="key" viewBox="0 0 26 10" aria-hidden="true">'
        f'<line class="c{i}" x1="0" x2="26" y1="5" y2="5"/></svg>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    cut = len(windows.channels) - len(names)
    more = (
        f" Only the first {len(names)} of {len(windows.channels)} channels are shown."
        if cut
        else ""
    )
    seconds = ""
    if windows.sample_rate_hz:
        seconds = f" of {windows.n_timesteps / windows.sample_rate_hz:.3g} s"
    return (
        f"<section><h2>Example windows</h2><p>For each class, three {escape(part.name)}"
        f" windows{seconds}: the most confident correct one, the least confident correct one, and"
        " one the network got wrong. Channels are scaled and share one axis."
        f'{more}</p><div class="legend">{legend}</div>{"".join(rows)}</section>'
    )


def _choose(
    labels: NDArray[Any], predicted: NDArray[Any], part: PagePart, label: Any, index: int
) -> list[tuple[int, str]]:
    """Return up to three windows of a class, each with its caption."""
    own = np.flatnonzero(labels == label)
    confidence = part.probability[own, index]
    right = own[predicted[own] == label]
    wrong = own[predicted[own] != label]
    chosen: list[tuple[int, str]] = []
    if right.size:
        order = right[np.argsort(part.probability[right, index], kind="stable")]
        clear, close = int(order[-1]), int(order[0])
        chosen.append((clear, f"correct, {part.probability[clear, index]:.0%} confident"))
        if close != clear:
            chosen.append((close, f"correct, {part.probability[close, index]:.0%} confident"))
    if wrong.size:
        row = int(own[np.argmin(np.where(predicted[own] != label, confidence, np.inf))])
        sure = part.probability[row].max()
        chosen.append((row, f"predicted {escape(str(predicted[row]))}, {sure:.0%} confident"))
    ids = None if part.windows.recording_id is None else part.windows.recording_id
    starts = part.windows.start_s
    return [
        (
            row,
            words
            + ("" if ids is None else f"<br>{escape(str(ids[row]))}")
            + ("" if starts is None else f", {starts[row]:.1f} s"),
        )
        for row, words in chosen
    ]


def _spark(X: NDArray[np.float64], windows: WindowSet, row: int, label: str) -> str:
    length = max(int(np.asarray(windows.lengths)[row]), 1)
    keep = np.unique(np.linspace(0, length - 1, min(length, _MAX_POINTS)).astype(np.int64))
    low, high = (float(v) for v in np.percentile(X, [0.5, 99.5]))
    if not high > low:
        low, high = low - 1, high + 1
    channels: Sequence[NDArray[np.float64]] = [X[row, keep, c] for c in range(X.shape[2])]
    return sparkline(channels, (low, high), f"window of class {label}")


def _facts(model: SensorLSTMClassifier) -> str:
    report, preparation = model.fluctuation_, model.preparation_
    facts: dict[str, str] = {
        "classes": ", ".join(str(name) for name in model.classes_.tolist()),
        "training windows": str(report.n_train),
        "validation windows": str(report.n_val) if report.n_val else "none",
        "epochs": f"{model.n_iter_}, best weights from epoch {model.best_epoch_}",
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
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<section><h2>The fit</h2><dl>{rows}</dl></section>"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(interval: Sequence[float], *, signed: bool = False) -> str:
    if not np.isfinite(interval).all():
        return "no interval"
    low, high = (100 * value for value in interval)
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"{low:.1f} to {high:.1f}"
