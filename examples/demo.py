"""Train a model on simulated robots, test it on unseen robots, and judge its training curve.

Run it with `make demo`.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.datasets import (
    SURFACES_SAMPLE_RATE_HZ,
    SURFACES_WINDOW_SAMPLES,
    load_surfaces,
)
from sensorseq.evaluation.evaluate import evaluate_test

BASELINES = {
    "majority": "always the most frequent surface",
    "ridge": "ridge on summary features",
    "gradient_boosting": "gradient boosting on summary features",
    "rocket_ridge": "MiniRocket with ridge",
}


def main():
    """Run all steps and print their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()

    recordings = load_surfaces()
    robots = sorted({recording.group for recording in recordings})
    print(f"1. {len(recordings)} SIMULATED recordings of motor current, {len(robots)} robots")

    pipeline = PreparePipeline(
        sample_rate_hz=SURFACES_SAMPLE_RATE_HZ,
        window_s=SURFACES_WINDOW_SAMPLES / SURFACES_SAMPLE_RATE_HZ,
        split=(0.6, 0.2, 0.2),
    )
    windows = pipeline.prepare(recordings)
    test = windows.part("test")
    print(
        f"2. {len(windows)} windows of {windows.n_timesteps} steps at"
        f" {windows.sample_rate_hz:g} Hz, split by robot;"
        f" {', '.join(np.unique(test.groups))} are the test"
    )

    print("3. training an LSTM on the other robots, some of which are held out for validation")
    clf = SensorLSTMClassifier(random_state=0, verbose=1)
    clf.fit(windows)
    print(f"\n{clf.features_}\n")

    print("4. accuracy on the test robots, which were not used in training")
    compared = evaluate_test(clf, windows, baselines=list(BASELINES))
    for name, words in BASELINES.items():
        print(f"     {compared.baselines[name].scores['accuracy']:6.1%}  {words}")
    print(f"     {compared.model.scores['accuracy']:6.1%}  the LSTM with features")

    print("5. is the training curve normal?\n")
    print(clf.fluctuation_)

    page, model = output / "report.html", output / "surfaces.safetensors"
    clf.fluctuation_.to_html(page)
    clf.save(model)
    print(f"\n6. wrote {page} and {model} ({time.perf_counter() - started:.0f} s in total)")


if __name__ == "__main__":
    main()
