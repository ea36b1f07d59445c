"""Checks that memory stays flat over repeated work: `python benchmarks/harden/flat_memory.py`.

The program repeats fits, predictions, reports (created and rendered as pages) and streams a
thousand times each. Each kind of work runs in its own process, and two processes run at a time.
After every tenth repetition, garbage is collected and resident memory is measured. The first
quarter is a warm-up. Memory is flat if the median grows from the second quarter to the last by at
most `BOUND` bytes per repetition and at most `MOST` bytes in total. One leaked object per
repetition is found, because a fit takes 77 kB, its network 20 kB and its history 1.6 kB. Without
leaks, memory varied by up to 500 bytes per fit. The last line of the output is a JSON summary.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
REPETITIONS, EVERY = 1000, 10
BOUND, MOST = 1000, 20_000_000  # bytes


def resident_bytes():
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def windows(seed, n=16, steps=10):
    """Return windows of two channels in two distinguishable classes, and their labels."""
    import numpy as np

    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    X = rng.normal(size=(n, steps, 2)) + y[:, None, None]
    return X.astype(np.float32), y


def classifier(**changes):
    from sensorseq import SensorLSTMClassifier

    plain = {"features": None, "refit": None, "hidden_size": 8, "max_epochs": 1}
    return SensorLSTMClassifier(**plain | {"random_state": 0} | changes)


def fits():
    """Fit with each engine, with several networks, and with the defaults."""
    from sensorseq import SensorLSTMClassifier

    X, y = windows(0)
    small = {"hidden_size": 8, "max_epochs": 1, "random_state": 0}
    kinds = [
        lambda: classifier(engine="native").fit(X, y),
        lambda: classifier(engine="autograd").fit(X, y),
        lambda: classifier(n_models=2).fit(X, y),
    ]
    kinds = [*5 * kinds, lambda: SensorLSTMClassifier(**small).fit(X, y)]  # takes longest
    return lambda number: kinds[number % len(kinds)]()


def predictions():
    """Predict different numbers of windows of different lengths with one classifier per engine."""
    X, y = windows(0)
    fitted = [classifier(engine=engine).fit(X, y) for engine in ("native", "autograd")]
    some = [windows(1, n, steps)[0] for n, steps in ((1, 10), (300, 10), (7, 25), (40, 3))]
    return lambda number: fitted[number % 2].predict_proba(some[number // 2 % len(some)])


def reports():
    """Create the report of a history of 30 epochs, and render it as a page and as text."""
    from sensorseq.diagnosis import FluctuationReport

    X, y = windows(0)
    fitted = classifier(max_epochs=30, patience=30).fit(X, y)
    page = Path(tempfile.mkdtemp()) / "page.html"

    def repeat(_number):
        report = FluctuationReport.from_history(fitted.history_, n_val=4)
        report.to_html(page)
        fitted.fluctuation_.to_html(page)
        return str(report)

    return repeat


def streams():
    """Stream a signal through a network and through a classifier trained on recordings."""
    import numpy as np
    import torch

    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.recording import Recording

    rng = np.random.default_rng(0)
    recordings = [
        Recording.evenly_sampled(
            rng.normal(size=(400, 1)) + i % 2, 50.0, ("a",), f"r{i}", label="xy"[i % 2]
        )
        for i in range(8)
    ]
    fitted = classifier(bidirectional=False).fit(PreparePipeline(window_s=1.0).prepare(recordings))
    values, stamps = recordings[0].values, recordings[0].timestamps_s

    def repeat(_number):
        logits = fitted.module_.stream(2)
        logits(torch.zeros(2, 5, 1))
        stream = fitted.stream()
        pieces = (slice(0, 90), slice(90, 150))
        decided = [stream.push(values[piece], stamps[piece]) for piece in pieces]
        return [*decided, stream.flush()]

    return repeat


KINDS = {work.__name__: work for work in (fits, predictions, reports, streams)}


def measure(repeat, repetitions=REPETITIONS):
    """Repeat some work; return the resident bytes after every tenth repetition."""
    seen = []
    for number in range(repetitions):
        repeat(number)
        if number % EVERY == EVERY - 1:
            gc.collect()
            seen.append(resident_bytes())
    return seen


def judge(seen):
    """Return facts such as the growth in bytes per repetition, and whether the memory is flat."""
    quarter = len(seen) // 4
    before, after = seen[quarter : 2 * quarter], seen[-quarter:]
    growth = statistics.median(after) - statistics.median(before)
    n_between = (len(seen) - 2 * quarter) * EVERY
    facts = {"cases": len(seen) * EVERY, "bytes_each": round(growth / n_between)}
    facts |= {"growth_mb": round(growth / 1e6, 2), "resident_mb": round(seen[-1] / 1e6)}
    return facts, growth <= min(BOUND * n_between, MOST)


def run(kind):
    """Measure one kind of work in its own process; return the facts and whether memory is flat."""
    command = [sys.executable, __file__, "--kind", kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"findings": [f"ended with {done.returncode}"]}, False
    facts, is_flat = judge(json.loads(done.stdout.splitlines()[-1]))
    return facts | {"findings": [] if is_flat else [f"{facts['bytes_each']} bytes each"]}, is_flat


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, help="print the resident memory of one kind")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.kind is not None:
        warnings.simplefilter("ignore")
        work = KINDS[asked.kind]()
        gc.freeze()  # the collector skips imported objects
        print(json.dumps(measure(work)))
        return 0
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(KINDS, pool.map(run, KINDS), strict=True))
    parts = {kind: facts for kind, (facts, _) in results.items()}
    n_bad = sum(not is_flat for _, is_flat in results.values())
    trials = sum(facts.get("cases", 0) for facts in parts.values())
    print(json.dumps({"trials": trials, "failures": n_bad, "parts": parts}))
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
