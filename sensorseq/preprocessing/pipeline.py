"""PreparePipeline: all steps of preparation in their fixed order."""

import importlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, RecordingError, WindowError, check_choice
from sensorseq.preprocessing._checks import RandomState, check_random_state
from sensorseq.preprocessing.configuration import (
    PrepareConfiguration,
    make_configuration,
    naming_file,
    read_configuration,
)
from sensorseq.preprocessing.cut import CutPlan, describe_cut, make_steps
from sensorseq.preprocessing.derive import (
    DERIVE,
    DerivedSteps,
    channel_rates,
    derive_steps,
)
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
from sensorseq.recording import Channel, Recording, sample_rate_of
from sensorseq.windows import WindowSet

_BLOCK_WINDOWS = 4096  # held in double at a time while a scale is learned


class PreparePipeline:
    """Turn recordings into windows with a split, and fit scaler and balance on the training part.

    resample -> steps -> window -> split -> fit the scaler on train -> balance train. The order is
    fixed, so no statistic of a validation or test window reaches training.

    Parameters
    ----------
    sample_rate_hz : float, optional
        Common rate of all recordings. By default the median of the recordings' median rates, which
        is stored in `provenance`.
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    max_gap_s : float, optional
        Longest gap, in seconds, to interpolate across; by default ten sample periods of the input.
    resample_engine : {"polyphase", "soxr"}, default="polyphase"
        See `resample`; streams on the robot use the first.
    attenuation_db : float, default=90.0
        Attenuation of the anti-aliasing filter above the new Nyquist frequency.
    channels : sequence of str, optional
        Channels to keep, in this order; all by default.
    steps : sequence of Step or dict, optional
        Filters and features between resampling and windows, in this order; see
        `sensorseq.preprocessing.steps`.
    derive : {"auto"} or None, default=None
        auto: choose `steps` by the names, units and rates of the first recording's channels; see
        `sensorseq.preprocessing.derive.derive_steps`. Cannot be combined with `steps`.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        The label of a window if the label changes within it; see `window_recordings`.
    min_purity : float, default=0.5
        For ``"majority"``: the share of its samples that must have a window's label.
    short : {"drop", "pad", "error"}, default="drop"
        A recording shorter than a window is left out and counted, padded, or an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, if they should overlap more than validation
        and test windows; `hop_s` by default.
    train_phase : {"grid", "random"}, default="grid"
        random: the grid of training windows starts at a random offset in each recording.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Shares of train, validation and test. None for recordings that will only be predicted:
        nothing is fitted.
    split_by : {"group", "recording", "time"}, default="group"
        The unit that is never divided. time: the beginning of each recording is train, then
        validation, then test, with an embargo between them; test scores are then for known robots.
    embargo_s : float, optional
        For a split by time: seconds left out between parts. By default a window plus the lookahead
        of the resampling filter and of steps with ``phase="zero"``; at least that lookahead.
    scale : str or None, default="standard"
        standard, robust, min_max, max_abs, quantile or physical; see `fit_scaler`.
    scale_per : {"all", "recording", "group"}, default="all"
        Statistics of all training windows, or of each recording or group from its own windows.
    rated : mapping of str to float, optional
        For ``"physical"``: the value of each channel that becomes 1.
    balance : {"undersample", "oversample"} or None, default=None
        See `balance_indices`.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to its class when balancing.
    augmentation : mapping, optional
        Fields of `Augmentation`: how copies made by ``balance="oversample"`` differ from their
        window. Applied when a model is fitted to a prepared file; for arrays see `ClassBalancer`.
    random_state : int, default=0
        Decides the split, the balance and random phases; fixed, so that results are reproducible.

    Attributes
    ----------
    scaler_ : Scaler, KeyedScaler or None
        Fitted on the training windows before balancing. None without a split.
    sample_indices_ : ndarray of int64 or None
        Training windows to fit on, as sorted positions in the WindowSet: balanced, or all of them
        if `balance` is None. None without a split.
    windows_ : WindowSet
        The last result of `prepare`.
    derived_ : DerivedSteps or None
        The steps that ``derive="auto"`` chose for it, which `configuration` then has.

    Raises
    ------
    ArgumentError, SignalError
        If an argument is invalid; raised at once, not after resampling.
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
        derive: str | None = None,
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
        augmentation: Mapping[str, Any] | None = None,
        random_state: RandomState = 0,
    ) -> None:
        arguments = {name: _plain(value) for name, value in locals().items() if name != "self"}
        check_random_state(random_state)
        if not isinstance(random_state, int | np.integer):
            # Draw an integer once, so that every part of the preparation follows from one seed.
            random_state = int(check_random_state(random_state).integers(2**31))
        arguments["random_state"] = int(random_state)
        if derive is not None:
            check_choice("derive", derive, DERIVE)
            if steps:
                raise ArgumentError(
                    f"derive={derive!r} and steps are both given, but derive chooses the steps;"
                    " remove one of them."
                )
        self.derived_: DerivedSteps | None = None
        self.cut = CutPlan.of(arguments)
        self.learn = LearnPlan.of(arguments)
        if self.cut.cuts_training_anew and self.learn.split_by == "time":
            raise ArgumentError(
                'train_hop_s and train_phase cannot be combined with split_by="time": training'
                ' windows would reach into the embargo. Use split_by="group", or remove them.'
            )
        if self.cut.cuts_training_anew and self.learn.split is None:
            raise ArgumentError(
                f"train_hop_s={train_hop_s!r} and train_phase={train_phase!r} apply to training"
                " windows, and without a split there are none; remove them."
            )
        arguments["steps"] = [step.to_dict() for step in self.cut.steps]
        self._arguments = arguments

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> "PreparePipeline":
        """Make the pipeline described by a configuration file of `prepare`.

        Keys about files (all of section ``input`` except ``channels``) are ignored; only
        `sensorseq.prepare.prepare` uses them.

        Parameters
        ----------
        path : str or path
            The configuration file.

        Raises
        ------
        ConfigurationError
            If the file cannot be read or is invalid.
        """
        with naming_file(path):
            return cls.from_configuration(read_configuration(path))

    @classmethod
    def from_configuration(
        cls, configuration: PrepareConfiguration | Mapping[str, Any], **changes: Any
    ) -> "PreparePipeline":
        """Make the pipeline from a configuration.

        Parameters
        ----------
        configuration : PrepareConfiguration or mapping
            Sections as in a configuration file, or as in the property `configuration`.
        **changes
            Arguments that override it.
        """
        if not isinstance(configuration, PrepareConfiguration):
            configuration = make_configuration(configuration)
        use = pipeline_arguments(with_changes(configuration.arguments(), changes))
        if "window_s" not in use:
            raise ArgumentError("window_s is not given; give the window length in seconds.")
        return cls(**use)

    @classmethod
    def for_prediction(cls, made: Mapping[str, Any]) -> "PreparePipeline":
        """Make the pipeline that prepares recordings for prediction as in training.

        Parameters
        ----------
        made : mapping
            `provenance` of prepared windows, or `preparation_` of a fitted model.

        Raises
        ------
        WindowError
            If it does not describe how the windows were made.
        """
        try:
            configuration = made["configuration"]
            sections = {name: configuration[name] for name in ("resample", "window")}
            # Older files of version 1, without steps, store their channels in another place.
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
                "these windows have no record of how they were made; use a file written by"
                " `prepare`."
            ) from error

    def to_toml(self) -> str:
        """Return the text of a configuration file for the same pipeline."""
        return make_configuration(self.configuration).to_toml()

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments in plain types, in sections as in a configuration file."""
        use = dict(self._arguments)
        if self.derived_ is not None:
            use["derive"] = None
        for name in ("split", "scale", "balance"):
            use[name] = "none" if use[name] is None else use[name]
        for name in ("split", "channels"):
            if isinstance(use[name], Iterable) and not isinstance(use[name], str):
                use[name] = [float(v) if name == "split" else str(v) for v in use[name]]
        for name in ("rated", "augmentation"):
            use[name] = None if use[name] is None else _lists(use[name])
        return PrepareConfiguration.of(use).model_dump()

    def prepare(self, recordings: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings, unscaled and unbalanced, with their split.

        Parameters
        ----------
        recordings : iterable of Recording
            With unique ids and the same channels (after selecting `channels`).

        Returns
        -------
        WindowSet
            `provenance` holds ``configuration``; ``versions``; ``sample_rate_hz`` and its source;
            ``recordings``: facts about each, with its own rate; ``dropped``: recordings or pieces
            without windows, with the reason; ``split``: windows and groups of each part and class,
            and how even they are; ``constant_channels``: channels that do not vary in the training
            part.

        Raises
        ------
        RecordingError
            If a recording differs from the others; the message names it.
        WindowError
            If there is no recording, or no window can be cut.
        SplitError
            If a class has too few groups for the parts.
        """
        given = self._select(recordings)
        rate, source = self._choose_rate(given)
        self.use_derived(given[0].channels, channel_rates(given[0]), rate)
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
        if self.derived_ is not None:
            provenance["derived"] = list(self.derived_.lines)
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

    @property
    def derives(self) -> bool:
        """Whether steps are chosen by names, units and rates of channels."""
        return self._arguments["derive"] is not None

    def use_derived(
        self, channels: Sequence[Channel], rates_hz: Sequence[float], sample_rate_hz: float
    ) -> None:
        """Choose the steps for these channels if ``derive="auto"``; otherwise change nothing.

        Parameters
        ----------
        channels, rates_hz, sample_rate_hz
            See `derive_steps`.
        """
        if self.derives:
            self.derived_ = derive_steps(channels, rates_hz, sample_rate_hz)
            self.cut = replace(self.cut, steps=make_steps(self.derived_.steps))
            self._arguments["steps"] = [step.to_dict() for step in self.cut.steps]

    def _keep(
        self,
        windows: WindowSet,
        split: NDArray[np.str_],
        pieces: list[Recording],
        rate: float,
    ) -> tuple[WindowSet, NDArray[np.str_]]:
        """Drop windows that the split left out, and recut training windows if requested."""
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
                f"recording id {twice[0]!r} is used {times[twice[0]]} times; give each recording a"
                " unique id."
            )
        return [self.cut.select(recording) for recording in given]

    def _choose_rate(self, given: list[Recording]) -> tuple[float, str]:
        if self.cut.sample_rate_hz is not None:
            return float(self.cut.sample_rate_hz), "given"
        return common_rate(map(sample_rate_of, given))


def common_rate(rates_hz: Iterable[float]) -> tuple[float, str]:
    """Return the common rate for recordings of these rates (NaN: unknown), and its source."""
    known = [rate for rate in rates_hz if np.isfinite(rate)]
    if not known:
        raise WindowError("no recording has two samples, so the sample rate is unknown.")
    # Nine digits: differences of stamps give 99.99999999999 for 100.
    return float(f"{np.median(known):.9g}"), "median of the recordings"


def versions() -> dict[str, str]:
    """Return the versions that samples depend on."""
    return {
        "sensorseq": str(importlib.import_module("sensorseq").__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def with_changes(arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with changes: of steps and derive, which exclude each other, the later."""
    changed = dict(arguments)
    if changes.get("steps"):
        changed.pop("derive", None)
    if changes.get("derive") in DERIVE:
        changed.pop("steps", None)
    return changed | dict(changes)


def pipeline_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `prepare` that `PreparePipeline` takes, in its form."""
    known = PreparePipeline.__init__.__kwdefaults__ or {}
    use = {name: value for name, value in arguments.items() if name in (*known, "window_s")}
    for name in ("split", "scale", "balance", "derive"):
        if isinstance(use.get(name), str) and use[name].strip().lower() == "none":
            use[name] = None
    if isinstance(use.get("split"), str):
        raise ArgumentError(f'split={use["split"]!r}: give three shares, or "none".')
    return use


def _plain(value: Any) -> Any:
    """Return a numpy number, alone or in a mapping, as a Python number, which files can store."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _lists(value: Any) -> Any:
    """Return nested values with lists in place of tuples, and plain mappings."""
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value


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
