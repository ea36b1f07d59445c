"""The page of a run: sections of the pages of `evaluate`, `predict` and `inspect`."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.base.text import percent, plural
from sensorseq.diagnosis.report_text import describe_accuracy
from sensorseq.errors import SensorseqError
from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.calibration import LEAST_GROUPS
from sensorseq.evaluation.evaluate import Comparison
from sensorseq.evaluation.fit_page import PagePart, make_page
from sensorseq.evaluation.metrics import Evaluation
from sensorseq.evaluation.predict import draw_drive, predict_recordings
from sensorseq.evaluation.text import NAMES, NO_INTERVAL, format_interval
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.inspection.label_errors import judge_labels
from sensorseq.inspection.look import describe_look
from sensorseq.sequence.strips import MOST_SPANS, named_colors
from sensorseq.windows import WindowSet

_MOST_SUSPECTS = 3
_MOST_IN_FILE = 20
_FEW_WRONG = 0.95  # if each class reaches this recall, more test recordings help most


def make_first_page(
    model: SensorLSTMClassifier,
    windows: WindowSet,
    comparison: Comparison,
    described: Mapping[str, Any],
    facts: Sequence[RecordingFacts],
    *,
    title: str,
    decisions: Sequence[str],
    suspects: Sequence[str],
    on_every_recording: str,
    on_the_robot: str,
    folder: Path,
) -> str:
    """Return the page: the model's worth, decisions, what would help, scores, and recordings."""
    return make_page(
        model,
        PagePart.of(model, windows, "test"),
        title=title,
        comparison=comparison,
        scores_first=True,
        template="first_model.html",
        worth=describe_worth(comparison, model),
        decisions=decisions,
        help=[*what_would_help(comparison.model, windows), *suspects, *_motors(described, folder)],
        on_every_recording=on_every_recording,
        on_the_robot=on_the_robot,
        drive=_drive(model, comparison.model, described),
        look=describe_look(described, facts),
    )


def describe_worth(comparison: Comparison, model: SensorLSTMClassifier) -> list[str]:
    """Describe the accuracy on the test part, and why that on left-out training windows differs."""
    evaluation, choice = comparison.model, model.features_
    accuracy = percent(evaluation.scores["accuracy"])
    interval = format_interval(evaluation.intervals["accuracy"])
    known = f"95 % interval {interval}"
    if evaluation.n_groups < LEAST_GROUPS:
        known = f"{plural(evaluation.n_groups, 'group')}, too few for an interval"
    elif interval == NO_INTERVAL:
        known = f"all {evaluation.n_groups} groups alike"
    others = ", ".join(
        f"{NAMES.get(name, name)} {percent(baseline.scores['accuracy'])}"
        for name, baseline in comparison.baselines.items()
    )
    of_test = (
        f"{accuracy} of {evaluation.n_windows} windows are right ({known}), in"
        f" {plural(len(evaluation.recordings), 'recording')} that the model never saw; baselines:"
        f" {others}."
    )
    if not choice.candidates:
        return [of_test]
    n_test, n_left_out = evaluation.n_windows, choice.n_windows
    right = n_test * evaluation.scores["accuracy"] + n_left_out * choice.candidates[-1].accuracy
    return [
        of_test,
        describe_accuracy(choice),
        "Both figures are for recordings that a model did not see. The test part is one draw of few"
        " recordings; the left-out windows were judged by models trained on fewer recordings.",
        f"Both together: {percent(right / (n_test + n_left_out))}.",
    ]


def count_groups(windows: WindowSet) -> dict[str, int]:
    """Return the number of groups of each class."""
    labels, groups = np.asarray(windows.y), np.asarray(windows.groups)
    return {name: len(np.unique(groups[labels == name])) for name in np.unique(labels).tolist()}


def what_would_help(evaluation: Evaluation, windows: WindowSet) -> list[str]:
    """Return a sentence about the class that needs more recordings most."""
    matrix, names = evaluation.confusion_matrix, evaluation.classes.tolist()
    groups, n_of_class = np.asarray(windows.groups), count_groups(windows)
    n_groups = [n_of_class.get(name, 0) for name in names]
    true, right = matrix.sum(axis=1), np.diag(matrix)
    recall = np.where(true > 0, right / np.maximum(true, 1), 1.0)
    worst = min(range(len(names)), key=lambda i: (recall[i], n_groups[i]))
    wrong = (matrix - np.diag(right))[worst]
    if recall[worst] >= _FEW_WRONG:
        in_test = np.asarray(windows.split) == "test"
        return [
            f"Wrong test windows: {int((true - right).sum())} of {int(true.sum())}. To test harder,"
            f" record more: the test part has"
            f" {plural(len(np.unique(groups[in_test])), 'group')} of recordings."
        ]
    taken_for = int(wrong.argmax())
    return [
        f"{names[worst]} is recognized worst: {int(wrong.sum())} of its {true[worst]} test windows"
        f" are wrong, {int(wrong[taken_for])} of them taken for {names[taken_for]}. Record more of"
        f" both (now {n_groups[worst]} and {plural(n_groups[taken_for], 'group')})."
    ]


def suspicious_labels(model: SensorLSTMClassifier, windows: WindowSet) -> list[str]:
    """Return sentences about recordings whose labels contradict models that did not see them."""
    of_folds = model.out_of_fold_predictions()
    if of_folds is None or windows.y is None:
        return []
    rows, probability = of_folds
    fitted = windows.take(rows)
    target = np.searchsorted(model.classes_, np.asarray(fitted.y))
    found = judge_labels(probability, target, model.classes_, np.asarray(fitted.groups))
    return [
        f"Check the label of {suspect.group}: {percent(suspect.share, 0)} of its"
        f" {suspect.n_windows} windows labeled {suspect.given} look like {suspect.likelier}."
        for suspect in found.recordings[:_MOST_SUSPECTS]
    ]


def _motors(described: Mapping[str, Any], folder: Path) -> list[str]:
    pairs = ",".join(":".join(pair) for pair in described.get("motors") or ())
    if not pairs:
        return []
    return [
        f"Channels look like motors. Try: sensorseq train {shlex.quote(str(folder / 'windows.h5'))}"
        f" --motors {pairs} -o {shlex.quote(str(folder / 'motors.safetensors'))}"
    ]


def _drive(
    model: SensorLSTMClassifier, evaluation: Evaluation, described: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Draw the timeline of the test recording with the lowest accuracy."""
    worst = min(evaluation.recordings, key=lambda row: row.accuracy).recording_id
    paths = {row["recording_id"]: row["paths"] for row in described["recordings"]}
    if [*paths.values()].count(paths.get(worst)) > _MOST_IN_FILE:
        return None  # all recordings of the file would be read
    try:
        predicted = predict_recordings(model, paths[worst][:1], with_facts=True)
    except (KeyError, SensorseqError):
        return None
    chosen = next((p for p in predicted if p.recording_id == worst), predicted[0])
    classes = chosen.classes.tolist()
    return {
        "classes": named_colors(classes),
        "drives": [draw_drive(chosen, classes)],
        "n_left": 0,
        "most_spans": MOST_SPANS,
    }
