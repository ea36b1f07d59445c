"""Compares resampling with scipy and soxr, for bench_preprocessing.py.

- resample: our side is `resample`, including its checks. scipy's side is `resample_poly` with
  identical taps; soxr's side is `soxr.resample` at the default quality HQ, with soxr's own filter.
- stream: `StreamResampler` against `soxr.ResampleStream` on consecutive chunks of 10 ms.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
from common.timing import alternate, repeated, summarize
from scipy.signal import resample_poly

from sensorseq.preprocessing.polyphase import ATTENUATION_DB, design_lowpass, simple_ratio
from sensorseq.preprocessing.resample import StreamResampler, resample

RATES = [  # rate, target, duration_s
    (1000.0, 100.0, 600.0),
    (100.0, 20.0, 1000.0),
    (441.0, 480.0, 200.0),
    (50.0, 100.0, 2000.0),
    (100.0, 99.987654321, 1000.0),  # the ratio is not a simple fraction, so a filter table is used
]
CHANNELS = (6, 1)
DTYPES = (np.float32, np.float64)
CHUNK_S, STREAM_S = 0.01, 60.0
EDGE = 60  # samples (of the lower rate) at each end that are not compared


@dataclass(frozen=True)
class ResampleCase:
    """One computation, which gives one row per peer.

    Parameters
    ----------
    shape : tuple of int
        Shape of the input.
    dtype : str
        Type of the input.
    ours : callable
        Computes the result once.
    peers : dict of str to callable
        Compute the same result with other libraries.
    """

    shape: tuple[int, ...]
    dtype: str
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]


def cases() -> Iterator[tuple[str, Callable[[], ResampleCase]]]:
    """Yield the name of a row and the function that makes its case."""
    for rate, target, duration_s in RATES:
        what = f"resample {rate:g} to {target:.10g} Hz"
        for n in CHANNELS:
            for dtype in DTYPES:
                args = (what, rate, target, duration_s, n, dtype)
                yield what, lambda args=args: resampling_case(*args)
    for dtype in DTYPES:
        what = "stream 1000 to 100 Hz, chunks of 10 ms"
        yield what, lambda what=what, dtype=dtype: stream_case(what, 1000.0, 100.0, 6, dtype)


def passband_signal(rate, target, duration_s, n_channels, dtype):
    """Return sums of sines that every filter passes and that differ between channels."""
    rng = np.random.default_rng(0)
    times = np.arange(int(duration_s * rate)) / rate
    signal = np.zeros((len(times), n_channels))
    for channel in range(n_channels):
        for frequency in rng.uniform(0, 0.75, 5) * min(rate, target) / 2:
            signal[:, channel] += np.sin(2 * np.pi * frequency * times + rng.uniform(0, 6))
    return signal.astype(dtype)


def check_agreement(what, ours, theirs, rate, target, tolerance):
    """Exit if the two results disagree anywhere except near their ends."""
    n = min(len(ours), len(theirs))
    edge = int(np.ceil(EDGE * max(1.0, target / rate)))
    error = np.abs(ours[:n] - theirs[:n])[edge:-edge].max()
    if abs(len(ours) - len(theirs)) > 1 or not error <= tolerance:
        raise SystemExit(f"{what}: results differ by {error:.2g}; timing them would be meaningless")


def resampling_case(what, rate, target, duration_s, n_channels, dtype):
    """Make the case of resampling a complete signal."""
    x = passband_signal(rate, target, duration_s, n_channels, dtype)
    peers = {"soxr HQ": lambda: soxr.resample(x, rate, target, quality="HQ")}
    ratio = simple_ratio(Fraction(target) / Fraction(rate))
    if ratio is not None:
        up, down = ratio.numerator, ratio.denominator
        # scipy multiplies by `up`, which our taps already include
        taps = design_lowpass(up, 1 / max(up, down), ATTENUATION_DB) / up
        peers["scipy"] = lambda: resample_poly(x, up, down, axis=0, window=taps)
    expected = resample(x, rate, target)
    for name, peer in peers.items():
        tolerance = 1e-3 if name == "soxr HQ" else 1e-5 if dtype == np.float32 else 1e-12
        check_agreement(f"{what}, {name}", expected, peer(), rate, target, tolerance)
    return ResampleCase(x.shape, np.dtype(dtype).name, lambda: resample(x, rate, target), peers)


def stream_case(what, rate, target, n_channels, dtype):
    """Make the case of resampling a signal in chunks, as a sensor delivers it."""
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

    check_agreement(what, np.concatenate(ours()), np.concatenate(theirs()), rate, target, 1e-3)
    return ResampleCase(x.shape, np.dtype(dtype).name, ours, {"soxr HQ": theirs})


def measure(case, rounds):
    """Time the sides of a case alternately; return one row per peer."""
    names = list(case.peers)
    ours, *theirs = alternate(
        repeated(case.ours), *(repeated(case.peers[name]) for name in names), rounds=rounds
    )
    return [
        {"shape": list(case.shape), "dtype": case.dtype, "against": name} | summarize(times, ours)
        for name, times in zip(names, theirs, strict=True)
    ]
