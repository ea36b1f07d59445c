"""Windows of a class that was left out of the training: how many are found at 5 % false alarms.

Each class of a set is left out in turn. Two thirds of the recordings (or robots) of the others are
fitted with the default classifier; the rest are windows of known classes, and those of the left-out
class are unknown. For each score: the area under the ROC curve, the share of unknown windows above
the 95 % quantile of the known test windows, and with the threshold that `fit` would set for a false
alarm rate of 5 %, the shares of unknown and of known windows above it.

- ``softmax``, ``entropy``, ``energy``: of the probabilities or logits, in a few lines without us;
  their thresholds are quantiles of out-of-fold predictions.
- ``statistics knn``: distance to the fifth nearest training window in standardized statistics.
- ``ours``: the distance of `predict_or_abstain(false_alarm_rate=0.05)`.

The score, its neighbours and its floor were chosen among about 80, mostly on `A-raw` and `B-raw`:
distances of pooled states, statistics and convolutions in the full, a reduced and the
discriminating space; disagreement of networks; mixtures of Gaussians; sums of ranks. The first two
of the six classes of `surfaces` had been looked at by then, the others had not.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.data import TASKS, Places, Windows, load
from common.arguments import make_parser
from common.json_lines import append_line, read_lines
from common.results_file import write_results
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from sensorseq import SensorLSTMClassifier
from sensorseq.features import SummaryFeatures
from sensorseq.prediction.out_of_distribution import OutOfDistribution

SETS = ("A-raw", "B-raw", "surfaces")
SCORES = ("softmax", "entropy", "energy", "statistics knn", "ours")
RATE = 0.05
Floats = NDArray[np.float64]


def of_logits(logits: Floats) -> dict[str, Floats]:
    """Return the scores that need nothing but logits (n, K), high for unknown windows."""
    p = softmax(logits, axis=1)
    return {
        "softmax": 1 - p.max(axis=1),
        "entropy": -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1),
        "energy": -np.asarray(logsumexp(logits, axis=1)),
    }


def measure(windows: Windows, left_out: int, seed: int) -> dict[str, Any]:
    """Return the figures of all scores with one class left out."""
    X, y, groups = windows.X, windows.y, windows.groups
    assert groups is not None
    known, unknown = np.flatnonzero(y != left_out), np.flatnonzero(y == left_out)
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
    train, test = next(folds.split(known, y[known], groups[known]))
    train, test = known[train], known[test]
    clf = SensorLSTMClassifier(random_state=seed).fit(X[train], y[train], groups=groups[train])
    logits = {"test": clf._outputs(X[test], None), "unknown": clf._outputs(X[unknown], None)}
    assert clf._head is not None
    out_of_fold, rows = clf._head.out_of_fold, clf._head.given_rows
    assert out_of_fold is not None
    assert rows is not None
    chosen = of_logits(out_of_fold)
    scores = {part: of_logits(own) for part, own in logits.items()}
    thresholds = {name: float(np.quantile(own, 1 - RATE)) for name, own in chosen.items()}
    ours = OutOfDistribution.learn(softmax(out_of_fold, axis=1), groups[train][rows])
    assert ours is not None
    thresholds["ours"] = ours.threshold(RATE)
    statistics = SummaryFeatures().fit(X[train])
    scaler = StandardScaler().fit(statistics.transform(X[train]))
    near = NearestNeighbors(n_neighbors=5).fit(scaler.transform(statistics.transform(X[train])))
    for part, rows_of in (("test", test), ("unknown", unknown)):
        scores[part]["ours"] = ours.distance(softmax(logits[part], axis=1))
        values = scaler.transform(statistics.transform(X[rows_of]))
        scores[part]["statistics knn"] = near.kneighbors(values)[0][:, -1]
    right = clf.classes_[logits["test"].argmax(axis=1)] == y[test]
    row: dict[str, Any] = {"n_unknown": len(unknown), "n_known": len(test)}
    row["accuracy"] = float(right.mean())
    for name in SCORES:
        row[name] = judge(scores["test"][name], scores["unknown"][name], thresholds.get(name))
    return row


def judge(known: Floats, unknown: Floats, threshold: float | None) -> dict[str, float]:
    """Return the figures of one score."""
    is_unknown = np.repeat([0, 1], [len(known), len(unknown)])
    found = {
        "auroc": float(roc_auc_score(is_unknown, np.concatenate([known, unknown]))),
        "detected_at_5": float((unknown > np.quantile(known, 1 - RATE)).mean()),
    }
    if threshold is not None:
        found["detected"] = float((unknown > threshold).mean())
        found["false_alarms"] = float((known > threshold).mean())
    return found


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print means over left-out classes and seeds, as docs/validation.md has them."""
    print("| set | score | AUROC | found at 5 % | found, chosen in fit | its false alarms |")
    print("|---|---|---|---|---|---|")
    for name in SETS:
        own = [row for row in rows if row["set"] == name]
        for score in SCORES if own else ():
            cells = []
            for key in ("auroc", "detected_at_5", "detected", "false_alarms"):
                values = [row[score][key] for row in own if key in row[score]]
                text = f"{np.mean(values):.2f}" if key == "auroc" else ""
                cells.append(text or (f"{np.mean(values):.1%}" if values else ""))
            print(f"| {name} ({len(own)}) | {score} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is asked for, print the table, write it with --write."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("open_set_rows.jsonl"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--write", action="store_true", help="write what is there to results/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = list(read_lines(args.rows))
    done = {(row["set"], row["left_out"], row["seed"]) for row in rows}
    for name in args.sets:
        windows = load(TASKS[name], Places(borealtc=args.borealtc))[0]
        plan = [(k, seed) for seed in args.seeds for k in np.unique(windows.y).tolist()]
        for left_out, seed in plan:
            if (name, left_out, seed) in done:
                continue
            row = {"set": name, "left_out": left_out, "seed": seed}
            rows.append(row | measure(windows, left_out, seed))
            append_line(args.rows, rows[-1])
            print(name, left_out, seed, {key: rows[-1][key] for key in ("softmax", "ours")})
    print_table(rows)
    if args.write:
        write_results("open_set", rows, partial={row["set"] for row in rows} != set(SETS))


if __name__ == "__main__":
    main()
