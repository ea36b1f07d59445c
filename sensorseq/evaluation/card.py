"""A model card in Markdown: what a model predicts, how well, from which data, and its limits."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import printable
from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.comparison_text import describe_folds
from sensorseq.evaluation.evaluate import Comparison
from sensorseq.evaluation.metrics import METRICS, Evaluation, compare
from sensorseq.evaluation.text import NAMES, format_interval, format_p_value, percent
from sensorseq.io.model_file import read_model

_MAX_CLASSES = 20  # classes shown in the confusion matrix
_FEW_RECORDINGS = 10  # with fewer recordings of a class, its recall is only a rough estimate


def model_card(
    model: SensorLSTMClassifier,
    path: str | os.PathLike[str],
    comparison: Comparison | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Return the Markdown card of the model in the file at `path`.

    `comparison` has its scores on windows it was not trained on; without one, the card says that
    there are none. `counts` are the windows of the prepared file by part and class.
    """
    description = read_model(path)[1]
    sections = {
        "Figures": _figures(model, comparison),
        "Data": _data(model, counts),
        "Training": _training(model),
        "Limits": _limits(model, comparison),
        "Provenance": _provenance(model, Path(path), description),
    }
    blocks = [f"# {_cell(Path(path).name)}", _purpose(model)]
    for head, section in sections.items():
        blocks += [f"## {head}", *section]
    return "\n\n".join(blocks) + "\n"


def _purpose(model: SensorLSTMClassifier) -> str:
    known: Mapping[str, Any] = model.preparation_ or {}
    channels, rate = known.get("channels") or [], known.get("sample_rate_hz")
    n_timesteps = known.get("n_timesteps")
    said = f"Classifies sensor windows as {', '.join(map(str, model.classes_.tolist()))}."
    if n_timesteps and rate:
        said += f" A window has {n_timesteps} samples at {rate:g} Hz ({n_timesteps / rate:.3g} s)"
        said += f" of {len(channels)} channel(s), in this order: {', '.join(channels)}."
    elif not known:
        said += f" A window has {model.n_features_in_} channel(s); it was trained on arrays."
    return _cell(said)


def _figures(model: SensorLSTMClassifier, comparison: Comparison | None) -> list[str]:
    if comparison is None:
        said = (
            "Not measured on test recordings. Add the prepared file:"
            " `sensorseq info MODEL --markdown --windows FILE.h5`."
        )
        candidates = model.features_.candidates
        if candidates:
            said += (
                f" In training, accuracy on {model.features_.n_windows} windows left out by folds"
                f" was {percent(candidates[-1].accuracy)}; this also chose the features."
            )
        return [said]
    evaluation = comparison.model
    rows = [
        [NAMES[name], percent(evaluation.scores[name]), format_interval(evaluation.intervals[name])]
        for name in (*METRICS, "calibration_error")
        if np.isfinite(evaluation.scores[name])
    ]
    blocks = [
        f"Measured on the {_cell(comparison.protocol)}. Intervals come from resampling whole"
        " groups of recordings.",
        _table(["", "score", "95 % interval"], rows),
    ]
    if comparison.fold_accuracy:
        blocks.append(describe_folds(comparison))
    if comparison.baselines:
        blocks.append(_baselines(comparison))
    return [*blocks, *_confusion(evaluation)]


def _baselines(comparison: Comparison) -> str:
    rows = []
    for name, baseline in comparison.baselines.items():
        difference = compare(comparison.model, baseline)["accuracy"]
        gain = f"{100 * difference.value:+.1f} {format_interval(difference.interval, signed=True)}"
        accuracy, p_value = percent(baseline.scores["accuracy"]), difference.p_value
        rows.append([NAMES.get(name, name), accuracy, gain, format_p_value(p_value)])
    return _table(["baseline", "accuracy", "model minus baseline, points", "p"], rows)


def _confusion(evaluation: Evaluation) -> list[str]:
    names, matrix = evaluation.classes.tolist(), evaluation.confusion_matrix
    recall = [percent(row[i] / row.sum()) if row.sum() else "-" for i, row in enumerate(matrix)]
    if len(names) > _MAX_CLASSES:
        return [_table(["class", "recall"], zip(names, recall, strict=True))]
    rows = [
        [name, *row.tolist(), share] for name, row, share in zip(names, matrix, recall, strict=True)
    ]
    return [
        "Windows by true class (rows) and predicted class (columns):",
        _table(["", *names, "recall"], rows),
    ]


def _data(model: SensorLSTMClassifier, counts: Mapping[str, Mapping[str, int]] | None) -> list[str]:
    known = model.preparation_
    if known is None:
        return ["Trained on arrays; the recordings are not known."]
    blocks = [f"Trained on windows of {len(known['recordings'])} recordings."]
    if counts:
        classes = list(next(iter(counts.values())))
        rows = [[name, *(by_class[name] for by_class in counts.values())] for name in classes]
        blocks.append(_table(["windows", *counts], rows))
    configuration: Mapping[str, Any] = known["configuration"] or {}
    rows = [
        [f"`[{section}]`", f"`{name} = {value!r}`"]
        for section, options in configuration.items()
        if isinstance(options, Mapping)
        for name, value in options.items()
        if value is not None
    ]
    if rows:
        blocks += ["Preparation:", _table(["section", "option"], rows)]
    return blocks


def _training(model: SensorLSTMClassifier) -> list[str]:
    defaults = type(model)().get_params(deep=False)
    changed = [
        f"`{name}={value!r}`"
        for name, value in model.get_params(deep=False).items()
        if repr(value) != repr(defaults[name])
    ]
    n_weights = sum(p.numel() for module in model.modules_ for p in module.parameters())
    facts = [
        f"{len(model.modules_)} network(s) of {model.module_.num_layers} LSTM layer(s) with"
        f" {model.module_.hidden_size} units, {n_weights} weights in all.",
        f"Arguments other than the defaults: {', '.join(changed) or 'none'}.",
        f"Features in the linear layer: {', '.join(model.features_.names) or 'none'}.",
        f"{model.n_iter_} epochs; weights of epoch {model.best_epoch_}."
        + (" Trained again on the validation part as well." if model.refitted_ else ""),
        f"Temperature of the probabilities: {model.temperature_:.3g}"
        + (" (not calibrated)." if model.temperature_ == 1 else "."),
        f"Fluctuation report: {model.fluctuation_.verdict}.",
    ]
    return ["\n".join(f"- {_cell(fact)}" for fact in facts)]


def _limits(model: SensorLSTMClassifier, comparison: Comparison | None) -> list[str]:
    facts = [
        f"Every window is assigned to one of {len(model.classes_)} classes, also where it belongs"
        " to none of them."
    ]
    if comparison is None:
        facts.append("Its accuracy on new recordings is unknown.")
    else:
        evaluation = comparison.model
        recall = np.diag(evaluation.confusion_matrix) / np.maximum(
            1, evaluation.confusion_matrix.sum(axis=1)
        )
        worst = int(np.argmin(recall))
        facts.append(
            f"The weakest class is {evaluation.classes[worst]}: {percent(recall[worst])} recall."
        )
        of_class: dict[str, int] = {str(name): 0 for name in evaluation.classes.tolist()}
        for row in evaluation.recordings:
            of_class[str(row.label)] = of_class.get(str(row.label), 0) + 1
        few = [f"{name} {n}" for name, n in of_class.items() if n < _FEW_RECORDINGS]
        if few:
            facts.append(f"Few test recordings, so recall is uncertain: {', '.join(few)}.")
        facts += comparison.notes
    facts.append(
        "Other robots, mountings, speeds, sample rates and units than those of the recordings below"
        " were not measured."
    )
    return ["\n".join(f"- {_cell(fact[0].upper() + fact[1:])}" for fact in facts)]


def _provenance(
    model: SensorLSTMClassifier, path: Path, description: Mapping[str, Any]
) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in description["versions"].items())
    rows = [
        [name, " ".join(f"`{digest[:16]}`" for digest in digests) or "unknown"]
        for name, digests in sorted(
            (model.preparation_ or {"recordings": {}})["recordings"].items()
        )
    ]
    blocks = [
        f"SHA-256 of the model file: `{hashlib.sha256(path.read_bytes()).hexdigest()}`.",
        f"Made with {versions}.",
    ]
    if model.adaptation_ is not None:
        blocks.append(_cell(f"This model was {model.adaptation_}"))
    if rows:
        blocks += [
            "Recordings it was trained on, with the first 16 digits of the SHA-256 of their files:",
            _table(["recording", "SHA-256"], rows),
        ]
    return blocks


def _table(heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Escape text for a cell of a Markdown table, so that it does not become HTML."""
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;")
