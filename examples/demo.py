"""From simulated robots to a model, its test on robots it never saw, a verdict and a picture.

Run it with `make demo`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.datasets import (
    SURFACES_SAMPLE_RATE_HZ,
    SURFACES_WINDOW_SAMPLES,
    load_surfaces,
)


def summary_features(X):
    """Mean, standard deviation and 12 log band powers of each channel."""
    spectrum = np.abs(np.fft.rfft(X - X.mean(axis=1, keepdims=True), axis=1))[:, 1:] ** 2
    bands = [part.sum(axis=1) for part in np.array_split(spectrum, 12, axis=1)]
    return np.concatenate([X.mean(axis=1), X.std(axis=1), np.log(np.hstack(bands) + 1e-9)], axis=1)


def main():
    """Do it all and say what is done."""
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
    train, test = windows.part("train"), windows.part("test")
    print(
        f"2. {len(windows)} windows of {windows.n_timesteps} steps at"
        f" {windows.sample_rate_hz:g} Hz, split by robot;"
        f" {', '.join(np.unique(test.groups))} are the test"
    )

    print("3. training an LSTM on the other robots, some of them held out for validation")
    clf = SensorLSTMClassifier(
        learning_rate=3e-3, dropout=0.3, max_epochs=60, random_state=0, verbose=1
    )
    clf.fit(windows)

    peers = {
        "always the commonest surface": DummyClassifier(),
        "ridge on mean, sd and spectrum": make_pipeline(StandardScaler(), RidgeClassifierCV()),
    }
    print("4. accuracy on the test robots, which had no part in training")
    for name, peer in peers.items():
        peer.fit(summary_features(train.X), train.y)
        print(f"     {peer.score(summary_features(test.X), test.y):6.1%}  {name}")
    print(f"     {clf.score(test.X, test.y):6.1%}  the LSTM")

    print("5. is its training curve sound?\n")
    print(clf.fluctuation_)

    picture, model = output / "curve.png", output / "surfaces.safetensors"
    clf.plot_history(picture)
    clf.save(model)
    print(f"\n6. wrote {picture} and {model} ({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
