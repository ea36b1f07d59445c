"""The preprocessing loops against the libraries that do the same, on one thread.

Same input and dtype on both sides; results are compared before any timing, and the sides are timed
in turns in one process. What is compared:

- resample: `resample`, checks included. scipy's side is `resample_poly` with the very same taps;
  soxr's is `soxr.resample` at its quality HQ, the default, with a filter of its own.
- stream: chunks of 10 ms one after the other, `StreamResampler` against `soxr.ResampleStream`.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy
import soxr
from _results import write_results
from scipy.signal import resample_poly

from sensorseq.benchmark import alternate, environment, summarize
from sensorseq.preprocessing.polyphase import ATTENUATION_DB, design_lowpass, simple_ratio
from sensorseq.preprocessing.resample import StreamResampler, resample

RATES = [  # rate, target, duration_s
    (1000.0, 100.0, 600.0),
    (100.0, 20.0, 1000.0),
    (441.0, 480.0, 200.0),
    (50.0, 100.0, 2000.0),
    (100.0, 99.987654321, 1000.0),  # no small fraction: the table of the filter
]
CHANNELS = (6, 1)
DTYPES = (np.float32, np.float64)
CHUNK_S, STREAM_S = 0.01, 60.0
EDGE = 60  # samples of the lower rate, in which the sides may differ: each has its own edges


@dataclass(frozen=True)
class Case:
    """One row for each peer.

    Parameters
    ----------
    what : str
        Name of the row.
    shape : tuple of int
        Of the input.
    dtype : str
        Of the input.
    ours : callable
        Computes the result once.
    peers : dict of str to callable
        Others' ways to the same result.
    """

    what: str
    shape: tuple[int, ...]
    dtype: str
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]


def resampling_cases() -> Iterator[Callable[[], Case]]:
    """Yield a function that makes the case, for whole signals and for streams."""
    for rates in RATES:
        for n_channels in CHANNELS:
            for dtype in DTYPES:
                yield lambda rates=rates, n=n_channels, d=dtype: resampling_case(*rates, n, d)
    for dtype in DTYPES:
        yield lambda d=dtype: stream_case(1000.0, 100.0, 6, d)


# Every section of the table: a function that yields functions, each of which makes a Case.
SECTIONS = [resampling_cases]


def passband_signal(rate, target, duration_s, n_channels, dtype):
    """Sines that every filter passes, different in each channel."""
    rng = np.random.default_rng(0)
    times = np.arange(int(duration_s * rate)) / rate
    signal = np.zeros((len(times), n_channels))
    for channel in range(n_channels):
        for frequency in rng.uniform(0, 0.75, 5) * min(rate, target) / 2:
            signal[:, channel] += np.sin(2 * np.pi * frequency * times + rng.uniform(0, 6))
    return signal.astype(dtype)


def check_agreement(what, ours, theirs, rate, target, tolerance):
    """Raise unless both results are the same away from the ends."""
    n = min(len(ours), len(theirs))
    edge = int(np.ceil(EDGE * max(1.0, target / rate)))
    error = np.abs(ours[:n] - theirs[:n])[edge:-edge].max()
    if abs(len(ours) - len(theirs)) > 1 or not error <= tolerance:
        raise SystemExit(f"{what}: results differ by {error:.2g}; timing them would mean nothing")


def resampling_case(rate, target, duration_s, n_channels, dtype):
    """Make a case of a whole signal from one rate to another."""
    x = passband_signal(rate, target, duration_s, n_channels, dtype)
    what = f"resample {rate:g} to {target:.10g} Hz"
    peers = {"soxr HQ": lambda: soxr.resample(x, rate, target, quality="HQ")}
    ratio = simple_ratio(Fraction(target) / Fraction(rate))
    if ratio is not None:
        up, down = ratio.numerator, ratio.denominator
        # scipy multiplies by `up`, our taps have that in them
        taps = design_lowpass(up, 1 / max(up, down), ATTENUATION_DB) / up
        peers["scipy"] = lambda: resample_poly(x, up, down, axis=0, window=taps)
    expected = resample(x, rate, target)
    for name, peer in peers.items():
        tolerance = 1e-3 if name == "soxr HQ" else 1e-5 if dtype == np.float32 else 1e-12
        check_agreement(f"{what}, {name}", expected, peer(), rate, target, tolerance)
    return Case(what, x.shape, np.dtype(dtype).name, lambda: resample(x, rate, target), peers)


def stream_case(rate, target, n_channels, dtype):
    """Make a case of the same in chunks, as they come from a sensor."""
    x = passband_signal(rate, target, STREAM_S, n_channels, dtype)
    size = int(CHUNK_S * rate)
    chunks = [x[i : i + size] for i in range(0, len(x), size)]

    def ours():
        stream = StreamResampler(rate, target, n_channels)
        return [stream.push(chunk) for chunk in chunks] + [stream.flush()]

    def theirs():
        stream = soxr.ResampleStream(rate, target, n_channels, dtype=np.dtype(dtype).name)
        last = len(chunks) - 1
        return [stream.resample_chunk(chunk, last=i == last) for i, chunk in enumerate(chunks)]

    what = f"stream {rate:g} to {target:g} Hz, {len(chunks)} chunks of 10 ms"
    check_agreement(what, np.concatenate(ours()), np.concatenate(theirs()), rate, target, 1e-3)
    return Case(what, x.shape, np.dtype(dtype).name, ours, {"soxr HQ": theirs})


def measure(case, rounds):
    """Time the sides of a case in turns; one row for each peer."""

    def repeated(call):
        def repeat(n):
            for _ in range(n):
                call()

        return repeat

    names = list(case.peers)
    ours, *theirs = alternate(
        repeated(case.ours), *(repeated(case.peers[name]) for name in names), rounds=rounds
    )
    return [
        {"what": case.what, "shape": list(case.shape), "dtype": case.dtype, "against": name}
        | summarize(times, ours)
        for name, times in zip(names, theirs, strict=True)
    ]


def main():
    """Time every row, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose name holds one of these words"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it works")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    facts = environment() | {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soxr": soxr.__version__,
        "threads": 1,
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    print(facts)
    print(f"{'':50} {'samples x ch.':>13} dtype   against  theirs ms   ours ms  ratio  [spread]")
    rows = []
    for section in SECTIONS:
        for make in section():
            case = make()
            if not any(word in case.what for word in options.only):
                continue
            for row in measure(case, rounds):
                rows.append(row)
                print(
                    f"{row['what']:50} {'x'.join(map(str, row['shape'])):>13} {row['dtype']:7}"
                    f" {row['against']:8} {row['theirs_ms']:9.3f} {row['ours_ms']:9.3f}"
                    f"  {row['ratio']:5.2f}x [{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]",
                    flush=True,
                )
    write_results("preprocessing", rows, partial=options.quick or options.only != [""], facts=facts)


if __name__ == "__main__":
    main()
