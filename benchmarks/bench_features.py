"""Compares random convolutions and competing kernels with aeon's MiniRocket and Hydra.

Everything runs on one thread. `transform`: aeon is fitted, and our side gets aeon's dilations,
channels and biases, so both compute the same features. Features that differ are counted before the
timing. aeon's side gets the windows in its own layout (channels before steps) and is compiled
before the timing. `fit`: each side chooses its own parameters from the same number of random
windows. `competing kernels`: each side computes its default features, which differ: Hydra has 64
groups of 8 random kernels, and our side has 12 groups of 7 of MiniRocket's kernels. Without aeon,
which is installed in the environment of the peers, only our times are printed.
"""

import argparse
import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # read when numba is imported

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from common.print_rows import print_rows
from common.results_file import begin, write_results
from common.timing import alternate, environment, repeated, summarize
from common.waiting import refuse_sleeping_threads
from numpy.typing import NDArray

from sensorseq.features import CompetingKernels, RandomConvolutions

N_FEATURES = 10_000
SHAPES = [  # windows, steps, channels
    (1000, 100, 1),
    (200, 500, 6),
    (1000, 32, 4),
    (1, 100, 6),
]
NAMES = ("channel_counts", "channel_indices", "dilations", "features_per_dilation", "biases")


def make_windows(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return random walks, each channel scaled to unit variance."""
    X = np.cumsum(np.random.default_rng(0).normal(size=shape), axis=1)
    scaled: NDArray[np.float32] = (X / X.std(axis=(0, 1))).astype(np.float32)
    return scaled


def with_parameters_of(theirs: Any, n_channels: int) -> RandomConvolutions:
    """Return our transform with the parameters that aeon's transform chose."""
    settings = {
        "kind": "random_convolutions",
        "n_features": N_FEATURES,
        "max_dilations": 32,
        "random_state": None,
        "n_channels": n_channels,
    }
    arrays = dict(zip(NAMES, theirs.parameters, strict=True))
    return RandomConvolutions.from_state({"settings": settings, "arrays": arrays})


def compare(shape: tuple[int, int, int], rounds: int) -> Iterator[dict[str, Any]]:
    """Time both sides alternately; yield one row for transform and one for fit."""
    from aeon.transformations.collection.convolution_based import MiniRocket

    X = make_windows(shape)
    channels_first = np.ascontiguousarray(np.swapaxes(X, 1, 2))

    def fit_theirs() -> Any:
        return MiniRocket(n_kernels=N_FEATURES, n_jobs=1, random_state=0).fit(channels_first)

    def fit_ours() -> RandomConvolutions:
        return RandomConvolutions(N_FEATURES, random_state=0).fit(X)

    theirs = fit_theirs()
    ours = with_parameters_of(theirs, shape[2])
    expected, computed = theirs.transform(channels_first), ours.transform(X)
    differ = float((expected != computed).mean())
    # an output within rounding of its bias may be counted as above or below the bias
    if np.abs(expected - computed).max() * shape[1] > 1.5 or differ > 1e-3:
        raise SystemExit(f"{shape}: {differ:.2%} of the features differ; a timing has no meaning")
    sides = {
        "transform": (lambda: theirs.transform(channels_first), lambda: ours.transform(X)),
        "fit": (fit_theirs, fit_ours),
    }
    for what, (their_side, our_side) in sides.items():
        row = {"what": what, "shape": list(shape), "features": ours.n_features_, "against": "aeon"}
        times = alternate(repeated(their_side), repeated(our_side), rounds=rounds, budget_s=20.0)
        row |= summarize(*times)
        if what == "transform":
            row["features_differ"] = differ
        yield row


def compare_competing(shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Time aeon's Hydra and our competing kernels alternately."""
    import torch
    from aeon.transformations.collection.convolution_based import HydraTransformer

    torch.set_num_threads(1)
    X = make_windows(shape)
    channels_first = np.ascontiguousarray(np.swapaxes(X, 1, 2))
    theirs = HydraTransformer(n_jobs=1, random_state=0).fit(channels_first)
    ours = CompetingKernels(random_state=0).fit(X)
    row = {"what": "competing kernels", "shape": list(shape), "features": ours.n_features_}
    row |= {"against": "aeon", "their_features": theirs.transform(channels_first).shape[1]}
    sides = (lambda: theirs.transform(channels_first), lambda: ours.transform(X))
    return row | summarize(*alternate(*map(repeated, sides), rounds=rounds, budget_s=20.0))


def time_alone(shape: tuple[int, int, int], rounds: int) -> str:
    """Time our transform and return a line to print."""
    X = make_windows(shape)
    ours = RandomConvolutions(N_FEATURES, random_state=0).fit(X)
    (times,) = alternate(repeated(lambda: ours.transform(X)), rounds=rounds)
    low, middle, high = 1e3 * np.quantile(times, [0.1, 0.5, 0.9])
    name = "x".join(map(str, shape))
    return f"transform  {name:>12}  ours {middle:9.3f} ms [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Time every shape, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="three rounds, as a smoke test")
    options = parser.parse_args()
    refuse_sleeping_threads()
    code = begin(__file__, partial=options.quick)
    rounds = 3 if options.quick else options.rounds
    facts = environment() | {
        "numpy": np.__version__,
        "threads": 1,
        "load_average_before": round(os.getloadavg()[0], 2),  # other programs increase the spread
    }
    if find_spec("aeon") is None:
        print(f"{facts}\naeon is not installed: only our times")
        for shape in SHAPES:
            print(time_alone(shape, rounds), flush=True)
        return
    import aeon
    import numba

    facts |= {"aeon": aeon.__version__, "numba": numba.__version__}
    numba.set_num_threads(1)
    print(facts)
    rows = print_rows(
        row
        for shape in SHAPES
        for row in (*compare(shape, rounds), compare_competing(shape, rounds))
    )
    write_results("features", rows, code=code, partial=options.quick, facts=facts)


if __name__ == "__main__":
    main()
