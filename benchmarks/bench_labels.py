"""Plants wrong labels in real windows and measures how many of them a ranking puts first.

Ten percent of the labels are replaced by wrong ones. ``random`` draws any other class. ``confused``
takes the class that ridge regression on random convolutions most often confuses with the right
class. ``recordings`` draws one wrong class for all windows of a recording (BorealTC's motors only).
Precision is the fraction of wrong labels among the first n rows, where n is the number of wrong
labels.

- ``ours``: `sensorseq.find_label_errors` with the default classifier.
- ``group alone``: only the fraction of the recording's windows that have the window's label.
- ``cleanlab, ours``: cleanlab's three scores, computed from our out-of-fold probabilities. The
  first, self-confidence, is our ranking without the labels of the recording's other windows.
- ``cleanlab, boosting`` and ``cleanlab, ridge``: cleanlab with probabilities that come
  from `cross_val_predict` with gradient boosting on summary statistics or ridge regression on
  random convolutions.

All methods hold out complete groups. cleanlab runs in its own interpreter (``--cleanlab-python``).
Rows that are already in the file ``--rows`` are not computed again.
"""

import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.data import LabeledWindows, Places, load
from common.arguments import make_parser
from common.json_lines import append_line, read_lines
from common.results_file import begin, write_results
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq import SensorLSTMClassifier, find_label_errors
from sensorseq.features import RandomConvolutions, SummaryFeatures
from sensorseq.inspection import label_errors

SETS = {"A": 1, "surfaces": 3, "BasicMotions": 1, "JapaneseVowels": 1, "watch": 3}  # every nth
KINDS = ("random", "confused")
SHARE = 0.1
SEEDS = (0, 1)
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
N_FOLDS = 5
_CLEANLAB = """
import sys, numpy as np, cleanlab
from cleanlab.rank import get_label_quality_scores
labels = np.load(sys.argv[1])
scores = {}
for score in sys.argv[3:]:
    scores[score] = get_label_quality_scores(labels["y"], labels["p"], method=score)
np.savez(sys.argv[2], version=cleanlab.__version__, **scores)
"""


def plant(
    windows: LabeledWindows, kind: str, seed: int, confused: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the labels with a fraction of them replaced by wrong ones."""
    rng = np.random.default_rng(seed)
    y, n_classes = windows.y, int(windows.y.max()) + 1
    units = windows.groups if kind == "recordings" else np.arange(len(y))
    assert units is not None
    names, member = np.unique(units, return_inverse=True)
    drawn = rng.choice(len(names), max(1, round(SHARE * len(names))), replace=False)
    steps = np.zeros(len(names), np.int64)
    steps[drawn] = rng.integers(1, n_classes, len(drawn))
    if kind == "confused":
        return np.where(steps[member] > 0, confused[y], y)
    wrong: NDArray[np.int64] = (y + steps[member]) % n_classes
    return wrong


def peer_probabilities(
    kind: str, windows: LabeledWindows, y: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Return out-of-fold probabilities computed with models of scikit-learn."""
    model: Any
    if kind == "boosting":
        summary = SummaryFeatures().fit(windows.X, windows.lengths)
        values = summary.transform(windows.X, windows.lengths)
        model, method = HistGradientBoostingClassifier(random_state=seed), "predict_proba"
    else:
        convolutions = RandomConvolutions(random_state=seed, pad=True)
        values = convolutions.fit(windows.X, windows.lengths).transform(windows.X, windows.lengths)
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
        method = "decision_function"
    splitter = StratifiedKFold if windows.groups is None else StratifiedGroupKFold
    cv = splitter(N_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, values, y, groups=windows.groups, cv=cv, method=method)
    return np.asarray(predicted if kind == "boosting" else softmax(predicted, axis=1))


def confused_classes(windows: LabeledWindows) -> NDArray[np.int64]:
    """Return, for each class, the class with which it is confused most often."""
    probability = peer_probabilities("ridge", windows, windows.y, 0)
    n_classes = probability.shape[1]
    mean = np.array([probability[windows.y == k].mean(axis=0) for k in range(n_classes)])
    np.fill_diagonal(mean, 0.0)
    return np.asarray(mean.argmax(axis=1))


def ask_cleanlab(
    python: str, y: NDArray[np.int64], p: NDArray[np.float64]
) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Return cleanlab's version and its scores, which are low for labels that look wrong."""
    with tempfile.TemporaryDirectory() as folder:
        labels_file, scores_file = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(labels_file, y=y, p=p / p.sum(axis=1, keepdims=True))
        subprocess.run([python, "-c", _CLEANLAB, labels_file, scores_file, *SCORES], check=True)
        with np.load(scores_file) as scores:
            return str(scores["version"]), {name: scores[name] for name in SCORES}


def precision(badness: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    """Return the fraction of wrong labels in the first n rows; n is the number of wrong labels."""
    first = np.argsort(-badness, kind="stable")[: wrong.sum()]
    return float(wrong[first].mean())


def group_means(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each group."""
    member = np.unique(groups, return_inverse=True)[1]
    return np.bincount(member, values) / np.bincount(member)


def measure(
    windows: LabeledWindows, y: NDArray[np.int64], seed: int, python: str | None, *, whole: bool
) -> dict[str, Any]:
    """Return a row with the precision of every method; with `whole`, recordings are judged."""
    seen: list[NDArray[np.float64]] = []
    judge = label_errors.judge_labels

    def keep(probability: NDArray[np.float64], *more: Any) -> Any:
        seen.append(probability)
        return judge(probability, *more)

    label_errors.judge_labels = keep
    started = time.perf_counter()
    try:
        ranking = find_label_errors(
            SensorLSTMClassifier(),
            windows.X,
            y,
            groups=windows.groups,
            lengths=windows.lengths,
            random_state=seed,
        )
    finally:
        label_errors.judge_labels = judge
    row: dict[str, Any] = {"ours_s": time.perf_counter() - started}
    wrong, classes = y != windows.y, np.unique(y)

    def scored(badness: NDArray[np.float64]) -> float:
        if not whole:
            return precision(badness, wrong)
        assert windows.groups is not None
        return precision(
            group_means(badness, windows.groups), group_means(1.0 * wrong, windows.groups) > 0.5
        )

    precisions = {}
    if whole:
        assert windows.groups is not None
        n_wrong = int((group_means(1.0 * wrong, windows.groups) > 0.5).sum())
        named = [wrong[windows.groups == recording.group].any() for recording in ranking.recordings]
        precisions["ours"] = float(sum(named[:n_wrong]) / n_wrong)
        row |= {"n": len(np.unique(windows.groups)), "n_wrong": n_wrong, "n_named": len(named)}
    else:
        first = ranking.row[: wrong.sum()]
        hit = wrong[first]
        precisions["ours"] = float(hit.mean())
        if windows.groups is not None:
            one_hot = np.eye(len(classes))[y]
            member = np.unique(windows.groups, return_inverse=True)[1]
            sums = np.zeros((member.max() + 1, len(classes)))
            np.add.at(sums, member, one_hot)
            precisions["group alone"] = scored(
                -(sums[member] / sums[member].sum(axis=1, keepdims=True))[np.arange(len(y)), y]
            )
        named_right = ranking.likelier[: wrong.sum()][hit] == windows.y[first][hit]
        row |= {"n": len(y), "n_wrong": int(wrong.sum()), "n_estimated": ranking.n_estimated}
        row["right_class_named"] = float(named_right.mean()) if hit.any() else None
    if python is not None:
        started = time.perf_counter()
        boosting = peer_probabilities("boosting", windows, y, seed)
        row["boosting_s"] = time.perf_counter() - started
        ridge = peer_probabilities("ridge", windows, y, seed)
        for name, p in (("ours", seen[0]), ("boosting", boosting), ("ridge", ridge)):
            row["cleanlab"], scores = ask_cleanlab(python, y, p)
            for score, quality in scores.items():
                precisions[f"cleanlab, {name}: {score}"] = scored(-quality)
    row["precision"] = precisions
    return row


def plans() -> list[tuple[str, str, int]]:
    """Return the set, kind and seed of every row."""
    windows = [(name, kind, seed) for seed in SEEDS for kind in KINDS for name in SETS]
    return windows + [("A", "recordings", seed) for seed in SEEDS]


def page_table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table of docs/label_errors.md, in percent."""
    lines = [
        "| set | errors | ours | cleanlab, our probabilities | cleanlab, boosting"
        " | cleanlab, ridge |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in ((name, kind) for name in SETS for kind in (*KINDS, "recordings")):
        of_set = [row["precision"] for row in rows if (row["set"], row["kind"]) == (name, kind)]
        if not of_set:
            continue
        cells = [f"{100 * mean_of(of_set, 'ours'):.1f}"]
        for source in ("ours", "boosting", "ridge"):
            of_scores = [mean_of(of_set, f"cleanlab, {source}: {score}") for score in SCORES]
            cells.append(" / ".join(f"{100 * value:.1f}" for value in of_scores))
        lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_of(rows: list[dict[str, float]], name: str) -> float:
    """Return the mean precision of one method, or NaN if the method did not run."""
    return float(np.mean([row.get(name, np.nan) for row in rows]))


def main() -> None:
    """Measure the selected rows, print the table, and write it with --write."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path)
    parser.add_argument("--seglearn", type=Path)
    parser.add_argument("--aeon", type=Path)
    parser.add_argument("--cleanlab-python", help="an interpreter that has cleanlab")
    parser.add_argument("--rows", type=Path, default=Path("labels_rows.jsonl"))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--write", action="store_true", help="write the existing rows to results/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    code = begin(__file__, partial=not args.write)
    rows = list(read_lines(args.rows))
    done = {(row["set"], row["kind"], row["seed"]) for row in rows}
    places = Places(args.borealtc, args.seglearn, args.aeon)
    loaded: dict[str, tuple[LabeledWindows, NDArray[np.int64]]] = {}
    for name, kind, seed in plans():
        if name not in args.sets or (name, kind, seed) in done:
            continue
        if name not in loaded:
            windows = load(name, places)[0]
            windows = windows.take(np.arange(0, len(windows), SETS[name]))
            loaded[name] = windows, confused_classes(windows)
        windows, confused = loaded[name]
        y = plant(windows, kind, seed, confused)
        row = {"set": name, "kind": kind, "seed": seed}
        row |= measure(windows, y, seed, args.cleanlab_python, whole=kind == "recordings")
        row |= code.stamp()
        rows.append(row)
        append_line(args.rows, row)
        print(name, kind, seed, f"{row['precision']['ours']:.3f}", flush=True)
    print(page_table(rows))
    write_results("labels", rows, code=code, partial=not args.write, every=SETS)


if __name__ == "__main__":
    main()
