"""PreparePipeline: the steps and the one order they can be taken in."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, RecordingError, WindowError, check_choice
from sensorseq.preprocessing._checks import (
    RandomState,
    check_positive,
    check_random_state,
    check_rate,
)
from sensorseq.preprocessing.balance import STRATEGIES, balance_indices
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.scale import KINDS, Scaler, fit_scaler
from sensorseq.preprocessing.split import check_fractions, split_by_group
from sensorseq.preprocessing.window import window_recordings
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet


class PreparePipeline:
    """Turn recordings into windows with a split, and learn the rest from the training part alone.

    resample -> window -> split by group -> fit the scaler on train -> balance train. The steps
    cannot be reordered: no statistic of a validation or test window reaches training.

    Parameters
    ----------
    sample_rate_hz : float, optional
        Rate all recordings are brought to. By default the median of the recordings' own median
        rates, which `provenance` tells.
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    max_gap_s : float, optional
        Longest hole, in seconds, to interpolate across; by default ten sample periods of the input.
    channels : sequence of str, optional
        Channels to keep, in this order; all by default.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Shares of train, validation and test, by group. None for recordings that are only to be
        predicted: nothing is learned from them.
    scale : {"standard", "robust", "min_max", "max_abs", "quantile"} or None, default="standard"
        See `fit_scaler`.
    balance : {"undersample", "oversample"} or None, default=None
        See `balance_indices`.
    random_state : int, default=0
        Decides the split and the balance; prepared data should be the same tomorrow.

    Attributes
    ----------
    scaler_ : Scaler or None
        Fitted on the training windows before balancing. None without a split.
    sample_indices_ : ndarray of int64 or None
        Training windows to fit on, as sorted positions in the WindowSet: balanced, or all of them
        when `balance` is None. None without a split.
    windows_ : WindowSet
        What `prepare` returned last.

    Raises
    ------
    ArgumentError, SignalError
        If an argument has no meaning; at once, not after an hour of resampling.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: float | None = None,
        window_s: float,
        hop_s: float | None = None,
        max_gap_s: float | None = None,
        channels: Sequence[str] | None = None,
        split: Sequence[float] | None = (0.6, 0.2, 0.2),
        scale: str | None = "standard",
        balance: str | None = None,
        random_state: RandomState = 0,
    ) -> None:
        if sample_rate_hz is not None:
            check_rate("sample_rate_hz", sample_rate_hz)
        check_positive("window_s", window_s)
        for argument, seconds in (("hop_s", hop_s), ("max_gap_s", max_gap_s)):
            if seconds is not None:
                check_positive(argument, seconds)
        if isinstance(channels, str):
            raise ArgumentError(f"channels={channels!r} is one text; give a list of names.")
        if scale is not None:
            check_choice("scale", scale, KINDS)
        if balance is not None:
            check_choice("balance", balance, STRATEGIES)
        if split is not None:
            check_fractions(split)
        elif balance is not None:
            raise ArgumentError(
                f"balance={balance!r} needs a split: only training windows may be balanced."
            )
        check_random_state(random_state)
        self.sample_rate_hz = sample_rate_hz
        self.window_s = window_s
        self.hop_s = hop_s
        self.max_gap_s = max_gap_s
        self.channels = channels
        self.split = split
        self.scale = scale
        self.balance = balance
        self.random_state = random_state

    @property
    def configuration(self) -> dict[str, dict[str, Any]]:
        """The arguments in plain types, in sections as in a configuration file."""
        seed = self.random_state
        return {
            "input": {"channels": None if self.channels is None else list(self.channels)},
            "resample": {"sample_rate_hz": self.sample_rate_hz, "max_gap_s": self.max_gap_s},
            "window": {"window_s": self.window_s, "hop_s": self.hop_s},
            "split": {
                "fractions": None if self.split is None else [float(f) for f in self.split],
                "random_state": int(seed) if isinstance(seed, int | np.integer) else None,
            },
            "scale": {"kind": self.scale},
            "balance": {"strategy": self.balance},
        }

    def prepare(self, recordings: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings, unscaled and unbalanced, with their split.

        Parameters
        ----------
        recordings : iterable of Recording
            With ids of their own and the same channels (after `channels` were selected).

        Returns
        -------
        WindowSet
            `provenance` holds ``configuration``; ``sample_rate_hz`` and where it comes from;
            ``recordings``: what became of each, with its own rate; ``dropped``: pieces of
            recordings that gave no window, and why.

        Raises
        ------
        RecordingError
            If a recording does not fit the others; the message names it.
        WindowError
            If there is no recording, or no window can be cut.
        SplitError
            If a class has too few groups for the parts.
        """
        given = self._select(recordings)
        rate, source = self._choose_rate(given)
        pieces_of = [resample_recording(recording, rate, self.max_gap_s) for recording in given]
        pieces = [piece for pieces in pieces_of for piece in pieces]
        windows = window_recordings(
            # A recording that no instant of is fully known goes on as an empty one, to be counted.
            pieces + [_emptied(r) for r, parts in zip(given, pieces_of, strict=True) if not parts],
            self.window_s,
            self.hop_s,
            sample_rate_hz=rate,
        )
        n_windows = Counter(np.asarray(windows.recording_id).tolist())
        provenance = {
            **windows.provenance,
            "configuration": self.configuration,
            "sample_rate_hz": rate,
            "sample_rate_from": source,
            "recordings": [
                {
                    "recording_id": recording.recording_id,
                    "sample_rate_hz": recording.median_sample_rate_hz,
                    "n_samples": recording.n_samples,
                    "n_pieces": len(parts),
                    "n_windows": n_windows[recording.recording_id],
                }
                for recording, parts in zip(given, pieces_of, strict=True)
            ],
        }
        windows = replace(windows, provenance=provenance)
        scaler: Scaler | None = None
        sample_indices: NDArray[np.int64] | None = None
        if self.split is not None:
            windows = self._split(windows)
            train = np.flatnonzero(windows.split == "train")
            scaler = fit_scaler(windows.X[train], np.asarray(windows.lengths)[train], self.scale)
            sample_indices = self._balance(windows, train)
        self.windows_, self.scaler_, self.sample_indices_ = windows, scaler, sample_indices
        return windows

    def _select(self, recordings: Iterable[Recording]) -> list[Recording]:
        given = list(recordings)
        if not given:
            raise WindowError("no recordings to prepare.")
        times = Counter(recording.recording_id for recording in given)
        twice = [name for name, count in times.items() if count > 1]
        if twice:
            raise RecordingError(
                f"recording id {twice[0]!r} is used {times[twice[0]]} times; ids tell recordings"
                " apart, so give each its own."
            )
        if self.channels is not None:
            given = [recording.select(self.channels) for recording in given]
        return given

    def _choose_rate(self, given: list[Recording]) -> tuple[float, str]:
        if self.sample_rate_hz is not None:
            return float(self.sample_rate_hz), "given"
        rates = [r.median_sample_rate_hz for r in given if r.n_samples > 1]
        if not rates:
            raise WindowError("no recording has two samples, so none has a rate.")
        # Nine digits: differences of stamps give 99.99999999999 for 100.
        return float(f"{np.median(rates):.9g}"), "median of the recordings"

    def _split(self, windows: WindowSet) -> WindowSet:
        assert self.split is not None
        groups = np.asarray(windows.groups)
        part = split_by_group(windows.y, groups, self.split, self.random_state)
        return replace(windows, split=part)

    def _balance(self, windows: WindowSet, train: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.balance is None:
            return train
        if windows.y is None:
            raise RecordingError(
                f"balance={self.balance!r} needs labels, and the recordings have none."
            )
        y, groups = windows.y[train], np.asarray(windows.groups)[train]
        return train[balance_indices(y, groups, self.balance, self.random_state)]


def _emptied(recording: Recording) -> Recording:
    return replace(recording, values=recording.values[:0], timestamps_s=recording.timestamps_s[:0])
