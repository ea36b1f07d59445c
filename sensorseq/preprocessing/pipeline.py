"""PreparePipeline: the complete preparation, in a fixed order."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Unpack, overload

from sensorseq.base.checks import RandomState, check_random_state
from sensorseq.base.text import number
from sensorseq.errors import ArgumentError, RecordingError, noting, warn_caller
from sensorseq.options import check_names, shows_options
from sensorseq.preprocessing.configuration import options_in, read_configuration, to_toml
from sensorseq.preprocessing.cut_recording import Facts, cut_recording
from sensorseq.preprocessing.cutting import common_rate
from sensorseq.preprocessing.native_rates import prepare_sensors
from sensorseq.preprocessing.options import (
    PIPELINE_OPTIONS,
    PipelineArguments,
    PreparationOptions,
)
from sensorseq.preprocessing.parts import MemoryPart, as_one_array
from sensorseq.preprocessing.plan import PreparationPlan, make_options
from sensorseq.preprocessing.preparation import (
    CutRecordings,
    Learned,
    cut_alike,
    odd_values_of,
    refuse_odd_rates,
)
from sensorseq.recording import Recording, sample_rate_of
from sensorseq.sensor_windows import SensorWindows
from sensorseq.windows import WindowSet


@shows_options(PreparationOptions, PipelineArguments)
class PreparePipeline:
    """Turn recordings into split windows, and fit the scaler and balancing to the training part.

    resample -> steps -> normalize -> window -> split -> fit the scaler on train -> balance train.
    The order is fixed, so no statistic of a validation or test window reaches training.

    Parameters
    ----------
    window_s : float
        Length of a window in seconds.
    random_state : int or generator, default=0
        Seed of the split, the balancing and the random phases; fixed by default, so that results
        are reproducible.
    **options
        Options by name; see `PreparationOptions`.

    Attributes
    ----------
    options : PreparationOptions
        The options of this pipeline.
    scaler_ : Scaler or None
        Scaler that was fitted on the training windows before balancing; None without a split.
    sample_indices_ : ndarray of int64 or None
        Sorted indices of the windows to fit on: the balanced training windows, or all training
        windows if `balance` is None. None without a split.
    windows_ : WindowSet
        The latest result of `prepare`.

    Raises
    ------
    ArgumentError, SignalError
        If an argument is invalid; the error is raised before any recording is resampled.
    """

    def __init__(
        self,
        *,
        window_s: float,
        random_state: RandomState = 0,
        **options: Unpack[PipelineArguments],
    ) -> None:
        check_names("PreparePipeline", options, PipelineArguments.__annotations__)
        use = {"window_s": window_s, "random_state": _seed(random_state), **options}
        self.plan = PreparationPlan.of(make_options(use))
        self.options = self.plan.learning

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
        options = read_configuration(path)
        with noting(f"in the configuration {path}"):
            return cls._of(options)

    @classmethod
    def from_configuration(
        cls, configuration: Mapping[str, Any], **changes: Any
    ) -> "PreparePipeline":
        """Make the pipeline from a configuration.

        Parameters
        ----------
        configuration : mapping
            Sections as in a configuration file or the property `configuration`.
        **changes
            Arguments that override the configuration.
        """
        return cls._of(options_in(configuration), **changes)

    @classmethod
    def _of(cls, options: Mapping[str, Any], **changes: Any) -> "PreparePipeline":
        """Make the pipeline from the options of a configuration, without those about files."""
        of_pipeline = {n: value for n, value in options.items() if n in PIPELINE_OPTIONS}
        return cls(**{"window_s": None, **of_pipeline, **changes})

    def to_toml(self) -> str:
        """Return the content of a configuration file for the same pipeline."""
        return to_toml(self.configuration)

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments as plain types, in sections as in a configuration file."""
        return self.plan.configuration

    @overload
    def prepare(
        self,
        recordings: Iterable[Recording],
        *,
        allow_scales: bool = False,
        allow_constant: bool = False,
    ) -> WindowSet: ...

    @overload
    def prepare(
        self,
        recordings: Mapping[str, Iterable[Recording]],
        *,
        allow_scales: bool = False,
        allow_constant: bool = False,
    ) -> SensorWindows: ...

    def prepare(
        self,
        recordings: Iterable[Recording] | Mapping[str, Iterable[Recording]],
        *,
        allow_scales: bool = False,
        allow_constant: bool = False,
    ) -> WindowSet | SensorWindows:
        """Return the windows of all recordings, unscaled and unbalanced, with their split.

        Parameters
        ----------
        recordings : iterable of Recording
            Recordings with unique ids and the same channels (after selecting `channels`). With
            `native_rates`, a mapping from each sensor to its recordings; recordings with the same
            id belong together.
        allow_scales : bool, default=False
            Use recordings even if the units of their timestamps or of a channel seem to differ;
            see `sensorseq.prepare.prepare`.
        allow_constant : bool, default=False
            Keep channels that are constant within windows and reveal the class on their own; see
            `sensorseq.prepare.prepare`.

        Returns
        -------
        WindowSet, or SensorWindows with `native_rates`
            The `provenance` of a WindowSet contains ``configuration``, ``versions``,
            ``sample_rate_hz`` and its source, and these entries: ``recordings`` contains facts
            about each recording, such as its own rate. ``dropped`` lists recordings or pieces
            without windows, with the reason. ``split`` contains the numbers of windows and groups
            in each part and class, and how far the parts are from the requested fractions.
            ``constant_channels`` lists channels that do not vary in the training part. If quartiles
            use only some time steps of the training part, ``quantiles_from`` contains the number of
            steps drawn and the number of all steps.

        Raises
        ------
        RecordingError
            If recordings differ in their channels, seem to differ in their units, or are all zero.
        WindowError
            If there is no recording, no window can be cut, or constant channels reveal the class.
        SplitError
            If a class has too few groups for the parts.
        """
        if isinstance(recordings, Mapping):
            if not self.options.native_rates:
                raise ArgumentError("recordings of several sensors need native_rates=True.")
            windows = prepare_sensors(
                self.plan,
                recordings,
                lambda use, of_sensor: [each.median_sample_rate_hz for each in of_sensor],
                lambda name, plan, of_sensor: (
                    _learn(
                        plan, of_sensor, allow_scales=allow_scales, allow_constant=allow_constant
                    ).windows
                ),
            )
            if subjects := windows.provenance.get("split", {}).get("subjects"):
                warn_caller(subjects)
            return windows
        if self.options.native_rates:
            raise ArgumentError(
                "native_rates=True needs the recordings of each sensor, {name: recordings}, as"
                " read_sensors returns them."
            )
        learned = _learn(
            self.plan, recordings, allow_scales=allow_scales, allow_constant=allow_constant
        )
        self.scaler_ = learned.scaler
        self.sample_indices_ = learned.sample_indices
        self.windows_ = learned.windows
        return self.windows_


def _learn(
    plan: PreparationPlan,
    recordings: Iterable[Recording],
    *,
    allow_scales: bool,
    allow_constant: bool,
) -> Learned:
    """Return the windows of recordings in memory, and the results of fitting on them."""
    taken = plan.checked(recordings)
    rates_hz = [sample_rate_of(recording) for recording in taken]
    if not allow_scales:
        refuse_odd_rates([f"recording {each.recording_id!r}" for each in taken], rates_hz)
    given_hz = plan.options.sample_rate_hz
    rate, rate_from = common_rate(rates_hz) if given_hz is None else (float(given_hz), "given")
    outcomes, held = cut_alike(
        plan, lambda plan: [cut_recording(recording, plan, rate) for recording in taken]
    )
    cut = CutRecordings(plan, [facts for facts, _ in outcomes], rate, rate_from, held)
    kept, _ = cut.usual(_refuse, allow_scales=allow_scales)
    cut.check_fates()
    sets_of = {facts.recording_id: sets for facts, sets in outcomes}

    def part_of(facts: Facts, group: str, channels: tuple[str, ...]) -> MemoryPart:
        order = [facts.channels.index(name) for name in channels]
        sets = sets_of[facts.recording_id]
        return MemoryPart(recording_id=facts.recording_id, group=group, order=order, sets=sets)

    learned = cut.learn(kept, part_of, allow_constant=allow_constant)
    subjects = learned.windows.provenance.get("split", {}).get("subjects", "")
    for text in filter(None, [*odd_values_of(kept), learned.simultaneous, subjects]):
        warn_caller(text)
    samples: Any = learned.windows.X
    return replace(learned, windows=replace(learned.windows, X=as_one_array(samples)))


def _refuse(facts: Facts, error: RecordingError) -> NoReturn:
    raise error


def _seed(random_state: RandomState) -> int:
    """Return a seed that can be recorded: the given integer, or one drawn from the generator."""
    seed = number(random_state)
    check_random_state(seed)
    return int(seed if isinstance(seed, int) else check_random_state(seed).integers(2**31))
