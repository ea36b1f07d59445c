"""Measures the cost of a fit's TrainingRecord: fits with a record and fits without one alternate.

The synthetic windows have 100 timesteps, one channel and six classes; one window in five is for
validation. The fits use batches of 32 and the estimator's defaults, but no early stopping, no
features and no refit. Both sides train the same epochs, and before any timing their results are
checked to be bit-identical. Each side creates its fluctuation report, which takes longer with a
record. `share` is the additional time relative to the fit without a record; `extra_s` is the
additional time of one complete fit in seconds. Both values are computed from the differences
between the two fits of each round.
"""

import argparse
import os
from typing import Any

import numpy as np
import torch
from common.results_file import begin, write_results
from common.timing import alternate, environment, repeated
from common.waiting import refuse_sleeping_threads
from numpy.typing import NDArray

from sensorseq import SensorLSTMClassifier
from sensorseq.training.recorder import without_recording

N_TIMESTEPS, N_CLASSES, BATCH_SIZE = 100, 6, 32
EPOCHS = {100: 60, 300: 30, 1000: 12, 4000: 4}  # by number of windows; each fit takes about 1 s
HIDDEN_SIZES = (16, 64)
ENGINES = ("native", "autograd")


def make_windows(n_windows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return noisy sinusoids whose frequency depends on the class."""
    rng = np.random.default_rng(0)
    y = np.arange(n_windows) % N_CLASSES
    phase = rng.uniform(0, 2 * np.pi, (n_windows, 1))
    X = np.sin((0.1 + 0.05 * y[:, None]) * np.arange(N_TIMESTEPS) + phase)
    X += 0.5 * rng.standard_normal(X.shape)
    return X[:, :, None].astype(np.float32), y


def fit(n_windows: int, hidden_size: int, engine: str) -> SensorLSTMClassifier:
    """Fit one classifier."""
    return SensorLSTMClassifier(
        hidden_size=hidden_size,
        batch_size=BATCH_SIZE,
        max_epochs=EPOCHS[n_windows],
        early_stopping=False,
        features=None,
        refit=None,
        engine=engine,
        device="cpu",
        random_state=0,
    ).fit(*make_windows(n_windows))


def measure(n_windows: int, hidden_size: int, engine: str, rounds: int) -> dict[str, Any]:
    """Time one case."""
    recorded = repeated(lambda: fit(n_windows, hidden_size, engine))

    def plain(n: int) -> None:
        with without_recording():
            recorded(n)

    with_it = fit(n_windows, hidden_size, engine)
    with without_recording():
        without = fit(n_windows, hidden_size, engine)
    pairs = zip(with_it.module_.parameters(), without.module_.parameters(), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs):
        raise SystemExit(f"{engine}, {n_windows} windows: the sides end with different bits")
    if with_it.fluctuation_.record is None or without.fluctuation_.record is not None:
        raise SystemExit(f"{engine}, {n_windows} windows: one side does not record as intended")
    plain_s, recorded_s = alternate(
        plain, recorded, rounds=rounds, at_least_s=0.0, warm_up_runs=1, budget_s=20.0
    )
    share, extra_s = recorded_s / plain_s - 1, recorded_s - plain_s
    return {
        "engine": engine,
        "shape": [n_windows, N_TIMESTEPS, 1, hidden_size],
        "batch": BATCH_SIZE,
        "epochs": EPOCHS[n_windows],
        "plain_s": float(np.median(plain_s)),
        "recorded_s": float(np.median(recorded_s)),
        **_spread("share", share),
        **_spread("extra_s", extra_s),
        "rounds": len(plain_s),
    }


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {name: float(middle), f"{name}_p10": float(low), f"{name}_p90": float(high)}


def main() -> None:
    """Time every case, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two small cases; nothing is written")
    options = parser.parse_args()
    refuse_sleeping_threads()
    code = begin(__file__, partial=options.quick)
    torch.set_num_threads(options.threads)
    facts = environment() | {
        "numpy": np.__version__,
        "threads": options.threads,
        "load_average_before": round(os.getloadavg()[0], 2),  # other programs increase the spread
    }
    print(facts)
    print(f"{'engine':10} {'shape':>16} {'plain s':>9} {'extra s':>9} {'share':>8}  [p10, p90]")
    rows = []
    for engine in ENGINES:
        for n_windows in list(EPOCHS)[: 1 if options.quick else None]:
            for hidden_size in HIDDEN_SIZES[: 1 if options.quick else None]:
                rounds = 3 if options.quick else options.rounds
                row = measure(n_windows, hidden_size, engine, rounds)
                rows.append(row)
                print(
                    f"{engine:10} {'x'.join(map(str, row['shape'])):>16} {row['plain_s']:9.3f}"
                    f" {row['extra_s']:+9.4f} {100 * row['share']:+7.1f} %"
                    f"  [{100 * row['share_p10']:+.1f}, {100 * row['share_p90']:+.1f}]",
                    flush=True,
                )
    write_results("recording", rows, code=code, partial=options.quick, facts=facts)


if __name__ == "__main__":
    main()
