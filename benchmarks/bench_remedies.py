"""Measures the effect of the remedies in docs/remedies on pairs of runs with many seeds.

    bench_remedies.py                   # all rows, about ten minutes on one core
    bench_remedies.py --only dropout    # the rows of one page

Both runs of a pair have the same windows and the same initial weights. A row contains the median of
the differences with their 10 to 90 % range, the mean with its standard error, and the number of
seeds for which the difference has the expected sign. If only some rows or seeds were run, or if the
benchmark was interrupted, the results go to `build/remedies.json`.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.results_file import RESULTS, begin, write_results
from common.timing import environment
from remedies.problems import PROBLEMS, ProblemData
from remedies.rows import MEASURES, ROWS, Row
from sklearn.exceptions import ConvergenceWarning

from sensorseq import SensorLSTMClassifier

BUILD = Path(__file__).resolve().parents[1] / "build"
N_SEEDS = 32
PLAIN = {  # a training run of the LSTM alone, without any remedy
    "hidden_size": 8,
    "bidirectional": False,
    "dropout": 0.0,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "warmup_epochs": 0,
    "batch_size": 16,
    "max_epochs": 40,
    "early_stopping": False,
    "restore_best": False,
    "device": "cpu",
    "features": None,
    "refit": None,
    "patch": None,
    "label_smoothing": 0.0,
}


def fit(data: ProblemData, seed: int, **arguments: Any) -> Any:
    """Fit a small network; the argument `fit` names the data's extra arguments for `.fit()`."""
    fit_arguments = {name: data.fit_arguments[name] for name in arguments.pop("fit", ())}
    estimator = SensorLSTMClassifier(**{**PLAIN, **arguments}, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some variants diverge on purpose
        return estimator.fit(data.X, data.y, X_val=data.X_val, y_val=data.y_val, **fit_arguments)


def measure(row: Row, n_seeds: int) -> list[dict[str, Any]]:
    """Run all variants of a row; return a summary for each variant and each measure."""
    names = (*row.lower, *row.higher)
    figures = np.empty((n_seeds, 1 + len(row.variants), len(names)))
    for seed in range(n_seeds):
        data = PROBLEMS[row.problem](seed)
        for place, variant in enumerate((row.without, *row.variants)):
            fitted = fit(data, seed, **{**row.common, **variant})
            figures[seed, place] = [MEASURES[name](fitted, data) for name in names]
    return [
        {
            "remedy": row.remedy,
            "problem": row.problem,
            "common": text_of(row.common),
            "without": text_of(row.without),
            "with": text_of(variant),
            "measure": name,
            "expected": "lower" if name in row.lower else "higher",
            **summarize(*figures[:, [0, place], column].T, -1 if name in row.lower else 1),
        }
        for place, variant in enumerate(row.variants, 1)
        for column, name in enumerate(names)
    ]


def summarize(without: np.ndarray, remedied: np.ndarray, sign: int) -> dict[str, Any]:
    """Summarize the differences within the pairs of runs."""
    differences = remedied - without
    low, middle, high = np.quantile(differences, [0.1, 0.5, 0.9])
    return {
        "seeds": len(differences),
        "median_without": float(np.median(without)),
        "median_with": float(np.median(remedied)),
        "difference": float(middle),
        "difference_p10": float(low),
        "difference_p90": float(high),
        "mean": float(differences.mean()),
        "standard_error": float(differences.std(ddof=1) / len(differences) ** 0.5),
        "as_expected": int((sign * differences > 0).sum()),
    }


def text_of(variant: Any) -> str:
    """Format a variant as the arguments of a call."""
    parts = [f"{name}=..." for name in variant.get("fit", ())]
    values = {name: getattr(value, "__name__", repr(value)) for name, value in variant.items()}
    return ", ".join((*parts, *(f"{k}={v}" for k, v in values.items() if k != "fit")))


def format_row(row: dict[str, Any]) -> str:
    """Format one row as a line."""
    return (
        f"{row['remedy']:20} {row['with'][:44]:44} {row['measure'][:24]:24}"
        f" {row['difference']:+8.3g} [{row['difference_p10']:+.3g}, {row['difference_p90']:+.3g}]"
        f"  {row['mean']:+.3g} +- {row['standard_error']:.2g}"
        f"  {row['as_expected']}/{row['seeds']} {row['expected']}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected rows, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    remedies = sorted({row.remedy for row in ROWS})
    parser.add_argument("--only", choices=remedies, nargs="+", default=remedies)
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="at least two")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = [row for row in ROWS if row.remedy in options.only]
    done: list[dict[str, Any]] = []
    whole = options.only == remedies and options.seeds == N_SEEDS
    code = begin(__file__, folder=RESULTS if whole else BUILD)
    try:
        for number, row in enumerate(chosen, 1):
            summaries = measure(row, options.seeds)
            done += summaries
            print(f"[{number}/{len(chosen)}] {row.problem}", *map(format_row, summaries), sep="\n")
    except KeyboardInterrupt:
        whole = False
    facts = environment() | {"numpy": np.__version__, "threads": 1}
    folder = RESULTS if whole else BUILD
    write_results("remedies", done, code=code, partial=False, facts=facts, folder=folder)


if __name__ == "__main__":
    main()
