"""Runs transforms of aeon in a separate interpreter; imports nothing from this project.

Reads one request in JSON per line and answers with one line. The `input` of a request names an .npz
file with y and, for each stream i, the arrays train_i and test_i of shape (n, c, t). Predictions
are written to the file that `output` names. The first request of a method compiles the transform on
a few windows before the clock starts.
"""

import contextlib
import json
import sys
import time
import traceback

import numpy as np


def make(method, seed, n_threads):
    """Return an unfitted transform and its scaler or classifier."""
    from aeon.transformations.collection import convolution_based
    from sklearn.preprocessing import StandardScaler

    if method == "multirocket":
        return convolution_based.MultiRocket(random_state=seed, n_jobs=n_threads), StandardScaler()
    if method == "hydra":
        import torch
        from aeon.classification.convolution_based._hydra import _SparseScaler

        hydra = convolution_based.HydraTransformer(
            random_state=seed, n_jobs=n_threads, output_type="numpy"
        )

        class Scaler(_SparseScaler):  # the base class accepts tensors only
            def fit(self, X, y=None):
                super().fit(torch.from_numpy(X))

            def transform(self, X, y=None):
                return super().transform(torch.from_numpy(X)).numpy()

        return hydra, Scaler()
    # QUANT, with the trees that its authors use
    from aeon.transformations.collection.interval_based import QUANTTransformer
    from sklearn.ensemble import ExtraTreesClassifier

    return QUANTTransformer(), ExtraTreesClassifier(
        200, max_features=0.1, criterion="entropy", n_jobs=n_threads, random_state=seed
    )


def classify(method, seed, n_threads, streams, y, test_streams):
    """Fit and predict; return the predictions and the duration of each step."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline

    started = time.perf_counter()
    transforms = [make(method, seed, n_threads)[0] for _ in streams]
    features = [t.fit_transform(X) for t, X in zip(transforms, streams, strict=True)]
    last = make(method, seed, n_threads)[1]
    if hasattr(last, "transform"):
        last = make_pipeline(last, RidgeClassifierCV(np.logspace(-3, 3, 10)))
    last.fit(np.hstack(features), y)
    fitted = time.perf_counter()
    features = [t.transform(X) for t, X in zip(transforms, test_streams, strict=True)]
    predicted = last.predict(np.hstack(features))
    return predicted, fitted - started, time.perf_counter() - fitted


def answer(request, warm):
    """Handle the request in one line of input."""
    if request["what"] == "version":
        import aeon
        import numba

        return {"aeon": aeon.__version__, "numba": numba.__version__}
    method, n_threads = request["method"], request["threads"]
    if request["what"] == "available":
        make(method, 0, n_threads)
        return {}
    held = np.load(request["input"])
    y, count = held["y"], request["streams"]
    streams = [held[f"train_{i}"] for i in range(count)]
    test_streams = [held[f"test_{i}"] for i in range(count)]
    kind = (method, tuple(X.shape[1] == 1 for X in streams))
    if kind not in warm:
        few = np.concatenate([np.flatnonzero(y == k)[:2] for k in np.unique(y)])
        classify(
            method, 0, n_threads, [X[few] for X in streams], y[few], [X[:2] for X in test_streams]
        )
        warm.add(kind)
    predicted, fit_s, predict_s = classify(
        method, request["seed"], n_threads, streams, y, test_streams
    )
    np.save(request["output"], predicted)
    return {"fit_s": fit_s, "predict_s": predict_s}


def main():
    """Answer requests until the input ends."""
    warm = set()
    answers = sys.stdout
    for line in sys.stdin:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # libraries print to stdout
                result = answer(json.loads(line), warm)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
