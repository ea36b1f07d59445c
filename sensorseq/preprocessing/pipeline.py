"""PreparePipeline: the steps and the one order they can be taken in."""

import importlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, RecordingError, WindowError
from sensorseq.preprocessing._checks import RandomState, check_random_state
from sensorseq.preprocessing.configuration import (
    PrepareConfiguration,
    make_configuration,
    naming_file,
    read_configuration,
)
from sensorseq.preprocessing.cut import CutPlan, describe_cut
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.preprocessing.learn import (
    LearnPlan,
    WindowTable,
    check_training_anew,
    describe_scaler,
)
from sensorseq.preprocessing.polyphase import ATTENUATION_DB
from sensorseq.preprocessing.scale import Scaler
from sensorseq.preprocessing.steps import Step
from sensorseq.recording import Recording, sample_rate_of
from sensorseq.windows import WindowSet

_BLOCK_WINDOWS = 4096  # held in double at a time while a scale is learned


class PreparePipeline:
    """Turn recordings into windows with a split, and learn the rest from the training part alone.

    resample -> steps -> window -> split -> fit the scaler on train -> balance train. They cannot be
    reordered: no statistic of a validation or test window reaches training.

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
    resample_engine : {"polyphase", "soxr"}, default="polyphase"
        See `resample`; the first is what a stream on the robot does too.
    attenuation_db : float, default=90.0
        What the anti-aliasing filter takes from above the new Nyquist frequency.
    channels : sequence of str, optional
        Channels to keep, in this order; all by default.
    steps : sequence of Step or dict, optional
        Filters and features between resampling and windows, in this order; see
        `sensorseq.preprocessing.steps`.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        Which label a window has where labels change inside a recording; see `window_recordings`.
    min_purity : float, default=0.5
        For ``"majority"``: the share of its samples that a window's label must have.
    short : {"drop", "pad", "error"}, default="drop"
        A recording shorter than a window is left out and counted, padded, or an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, where they shall overlap more than those
        that are judged by; `hop_s` by default.
    train_phase : {"grid", "random"}, default="grid"
        random: the grid of training windows starts at a random offset in each recording.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Shares of train, validation and test. None for recordings that are only to be predicted:
        nothing is learned from them.
    split_by : {"group", "recording", "time"}, default="group"
        What stays on one side. time: the beginning of each recording is train, then validation,
        then test, with an embargo between; a model is then judged on robots it knows.
    embargo_s : float, optional
        Of a split by time: seconds left out between parts. By default a window, and what the
        resampling filter and steps with ``phase="zero"`` look ahead; never less than that.
    scale : str or None, default="standard"
        standard, robust, min_max, max_abs, quantile or physical; see `fit_scaler`.
    scale_per : {"all", "recording", "group"}, default="all"
        Statistics of all training windows, or of each recording or group from its own windows.
    rated : mapping of str to float, optional
        For ``"physical"``: the value that becomes 1, for each channel.
    balance : {"undersample", "oversample"} or None, default=None
        See `balance_indices`.
    max_per_recording : int or float, optional
        Limit of what one recording contributes to its class when balancing.
    augmentation : mapping of str to float, optional
        Fields of `Augmentation`: how the copies that ``balance="oversample"`` makes differ from
        their window. For prepared files, of which a fit takes the copies; see `ClassBalancer` for
        arrays.
    random_state : int, default=0
        Decides the split, the balance and random phases; prepared data should be the same tomorrow.

    Attributes
    ----------
    scaler_ : Scaler, KeyedScaler or None
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
        window_s: float,
        sample_rate_hz: float | None = None,
        hop_s: float | None = None,
        max_gap_s: float | None = None,
        resample_engine: str = "polyphase",
        attenuation_db: float = ATTENUATION_DB,
        channels: Sequence[str] | None = None,
        steps: Sequence[Step | Mapping[str, Any]] | None = None,
        label_rule: str = "whole",
        min_purity: float | None = None,
        short: str = "drop",
        train_hop_s: float | None = None,
        train_phase: str = "grid",
        split: Sequence[float] | None = (0.6, 0.2, 0.2),
        split_by: str = "group",
        embargo_s: float | None = None,
        scale: str | None = "standard",
        scale_per: str = "all",
        rated: Mapping[str, float] | None = None,
        balance: str | None = None,
        max_per_recording: int | float | None = None,
        augmentation: Mapping[str, float] | None = None,
        random_state: RandomState = 0,
    ) -> None:
        arguments = {name: _plain(value) for name, value in locals().items() if name != "self"}
        check_random_state(random_state)
        if not isinstance(random_state, int | np.integer):
            # Drawn once: every part of a preparation, and of one tomorrow, follows from the seed.
            random_state = int(check_random_state(random_state).integers(2**31))
        arguments["random_state"] = int(random_state)
        self.cut = CutPlan.of(arguments)
        self.learn = LearnPlan.of(arguments)
        if self.cut.cuts_training_anew and self.learn.split_by == "time":
            raise ArgumentError(
                "training windows of their own (train_hop_s, train_phase) cannot be had with"
                ' split_by="time": they would reach into the embargo. Split by group.'
            )
        if self.cut.cuts_training_anew and self.learn.split is None:
            raise ArgumentError(
                f"train_hop_s={train_hop_s!r} and train_phase={train_phase!r} say how training"
                " windows are cut, and without a split there are none; leave them away."
            )
        arguments["steps"] = [step.to_dict() for step in self.cut.steps]
        self._arguments = arguments

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> "PreparePipeline":
        """Make the pipeline that a configuration file of `prepare` describes.

        What the file says of files (all of its section ``input`` but ``channels``) is for
        `sensorseq.prepare.prepare`, which reads them.

        Parameters
        ----------
        path : str or path
            The configuration file.

        Raises
        ------
        ConfigurationError
            If the file cannot be read, or says what has no meaning.
        """
        with naming_file(path):
            return cls.from_configuration(read_configuration(path))

    @classmethod
    def from_configuration(
        cls, configuration: PrepareConfiguration | Mapping[str, Any], **changes: Any
    ) -> "PreparePipeline":
        """Make the pipeline of a configuration, or of what `configuration` returned.

        Parameters
        ----------
        configuration : PrepareConfiguration or mapping of sections
            Of sections as in a configuration file.
        **changes
            Arguments that differ from it.
        """
        if not isinstance(configuration, PrepareConfiguration):
            configuration = make_configuration(configuration)
        use = pipeline_arguments(configuration.arguments()) | changes
        if "window_s" not in use:
            raise ArgumentError("window_s is not given; say how many seconds a window has.")
        return cls(**use)

    @classmethod
    def for_prediction(cls, made: Mapping[str, Any]) -> "PreparePipeline":
        """Make the pipeline that takes recordings to be predicted where training windows came from.

        Parameters
        ----------
        made : mapping
            `provenance` of prepared windows, or `preparation_` of a fitted model.

        Raises
        ------
        WindowError
            If it does not say how the windows were made.
        """
        try:
            configuration = made["configuration"]
            sections = {name: configuration[name] for name in ("resample", "window")}
            # Files of version 1 that know no steps tell their channels in another place.
            channels = made.get("input_channels") or made.get("channels")
            if channels is None:
                channels = made["recordings"][0]["channels"]
            return cls.from_configuration(
                {**sections, "steps": configuration.get("steps") or []},
                sample_rate_hz=made.get("resampled_to_hz") or made["sample_rate_hz"],
                channels=list(channels),
                train_hop_s=None,
                train_phase="grid",
                split=None,
                scale=None,
            )
        except (KeyError, TypeError, IndexError) as error:
            raise WindowError(
                "these windows do not say how they were made; use a file that `prepare` wrote."
            ) from error

    def to_toml(self) -> str:
        """Return the text of a configuration file that makes the same pipeline."""
        return make_configuration(self.configuration).to_toml()

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments in plain types, in sections as in a configuration file."""
        use = dict(self._arguments)
        for name in ("split", "scale", "balance"):
            use[name] = "none" if use[name] is None else use[name]
        for name in ("split", "channels"):
            if isinstance(use[name], Iterable) and not isinstance(use[name], str):
                use[name] = [float(v) if name == "split" else str(v) for v in use[name]]
        for name in ("rated", "augmentation"):
            use[name] = None if use[name] is None else dict(use[name])
        return PrepareConfiguration.of(use).model_dump()

    def prepare(self, recordings: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings, unscaled and unbalanced, with their split.

        Parameters
        ----------
        recordings : iterable of Recording
            With ids of their own and the same channels (after `channels` were selected).

        Returns
        -------
        WindowSet
            `provenance` holds ``configuration``; ``versions``; ``sample_rate_hz`` and where it
            comes from; ``recordings``: what became of each, with its own rate; ``dropped``: what
            gave no window, and why; ``split``: windows and groups of each part and class, and how
            even that is; ``constant_channels``: those that do not vary in the training part.

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
        pieces_of = [self.cut.pieces(recording, rate) for recording in given]
        pieces = [piece for parts in pieces_of for piece in parts]
        windows = self.cut.windows(pieces, rate, check_classes=True)
        own_rates = [sample_rate_of(recording) for recording in given]
        lookahead_s = 0.0
        if self.learn.split_by == "time":
            known = [own_rate for own_rate in own_rates if np.isfinite(own_rate)]
            lookahead_s = self.cut.lookahead_s(given[0].channels, known, rate)
        split = self.learn.assign_parts(_table(windows), self.cut.window_s, lookahead_s)
        evenness = self.learn.describe_split(split, _table(windows))
        if split is not None:
            windows, split = self._keep(windows, split, pieces, rate)
        n_windows = Counter(np.asarray(windows.recording_id).tolist())
        provenance = {
            **windows.provenance,
            "configuration": self.configuration,
            "versions": versions(),
            "sample_rate_hz": windows.sample_rate_hz,
            "sample_rate_from": source,
            "resampled_to_hz": rate,
            "input_channels": list(given[0].channel_names),
            "recordings": [
                {
                    "recording_id": recording.recording_id,
                    "sample_rate_hz": own_rate if np.isfinite(own_rate) else None,
                    **describe_cut(recording, parts),
                    "n_windows": n_windows[recording.recording_id],
                }
                for recording, parts, own_rate in zip(given, pieces_of, own_rates, strict=True)
            ],
        }
        windows = replace(windows, split=split, provenance=provenance)
        table = _table(windows)
        self.scaler_: Scaler | KeyedScaler | None = self.learn.fit_scaler(
            lambda rows: _blocks(windows.X, rows),
            np.asarray(windows.lengths),
            split,
            table,
            windows.channels,
        )
        self.sample_indices_ = self.learn.choose_rows(split, table)
        constant = describe_scaler(self.scaler_, windows.channels)
        self.windows_ = replace(windows, provenance={**provenance, **evenness, **constant})
        return self.windows_

    def _keep(
        self,
        windows: WindowSet,
        split: NDArray[np.str_],
        pieces: list[Recording],
        rate: float,
    ) -> tuple[WindowSet, NDArray[np.str_]]:
        """Leave out what the split left out, and cut training windows anew when asked to."""
        if not self.cut.cuts_training_anew:
            kept = np.flatnonzero(split != "")
            return windows.take(kept), split[kept]
        of_train = set(np.asarray(windows.recording_id)[split == "train"].tolist())
        train = self.cut.training_windows(
            [piece for piece in pieces if piece.recording_id in of_train], rate
        )
        of_others = np.flatnonzero((split != "") & (split != "train"))
        others = windows.take(of_others)
        joined = replace(
            WindowSet.concatenate([replace(train, provenance={}), replace(others, provenance={})]),
            provenance=windows.provenance,
        )
        parts = np.concatenate([np.full(len(train), "train"), split[of_others]])
        check_training_anew(parts, joined.y)
        order = {name: at for at, name in enumerate(dict.fromkeys(p.recording_id for p in pieces))}
        rank = np.argsort(
            [order[name] for name in np.asarray(joined.recording_id).tolist()], kind="stable"
        )
        return joined.take(rank), parts[rank]

    def _select(self, recordings: Iterable[Recording]) -> list[Recording]:
        given = list(recordings)
        if not given:
            raise WindowError("no recordings to prepare.")
        times = Counter(recording.recording_id for recording in given)
        for recording in given:
            recording.check_label_spans()
        twice = [name for name, count in times.items() if count > 1]
        if twice:
            raise RecordingError(
                f"recording id {twice[0]!r} is used {times[twice[0]]} times; ids tell recordings"
                " apart, so give each its own."
            )
        return [self.cut.select(recording) for recording in given]

    def _choose_rate(self, given: list[Recording]) -> tuple[float, str]:
        if self.cut.sample_rate_hz is not None:
            return float(self.cut.sample_rate_hz), "given"
        return common_rate(map(sample_rate_of, given))


def common_rate(rates_hz: Iterable[float]) -> tuple[float, str]:
    """Return the rate for recordings of these rates (NaN: unknown), and where it comes from."""
    known = [rate for rate in rates_hz if np.isfinite(rate)]
    if not known:
        raise WindowError("no recording has two samples, so none has a rate.")
    # Nine digits: differences of stamps give 99.99999999999 for 100.
    return float(f"{np.median(known):.9g}"), "median of the recordings"


def versions() -> dict[str, str]:
    """Return the versions that samples depend on."""
    return {
        "sensorseq": str(importlib.import_module("sensorseq").__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def pipeline_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of `prepare` that `PreparePipeline` takes, in its form."""
    known = PreparePipeline.__init__.__kwdefaults__ or {}
    use = {name: value for name, value in arguments.items() if name in (*known, "window_s")}
    for name in ("split", "scale", "balance"):
        if isinstance(use.get(name), str) and use[name].strip().lower() == "none":
            use[name] = None
    if isinstance(use.get("split"), str):
        raise ArgumentError(f'split={use["split"]!r}: give three shares, or "none".')
    return use


def _plain(value: Any) -> Any:
    """Return a numpy number, alone or in a mapping, as Python's own, which files can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _table(windows: WindowSet) -> WindowTable:
    return WindowTable(
        windows.y,
        np.asarray(windows.groups),
        np.asarray(windows.recording_id),
        np.asarray(windows.start_s),
    )


def _blocks(X: NDArray[np.float32], rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(rows), _BLOCK_WINDOWS):
        yield X[rows[first : first + _BLOCK_WINDOWS]]
