"""PreparePipeline: the complete preparation, in a fixed order."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Unpack, overload

from sensorseq.base.checks import RandomState, check_random_state
from sensorseq.base.text import number
from sensorseq.errors import ArgumentError, RecordingError, noting, warn_caller
from sensorseq.options import check_names, shows_options
from sensorseq.preprocessing.configuration import (
    PrepareConfiguration,
    make_configuration,
    read_configuration,
)
from sensorseq.preprocessing.cut_recording import Facts, cut_recording
from sensorseq.preprocessing.cutting import common_rate
from sensorseq.preprocessing.native_rates import check_native_rates, prepare_sensors
from sensorseq.preprocessing.options import (
    CAN_BE_OFF,
    PIPELINE_OPTIONS,
    PipelineArguments,
    PreparationOptions,
)
from sensorseq.preprocessing.parts import MemoryPart, as_one_array
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.preparation import (
    CutRecordings,
    cut_alike,
    odd_values_of,
    refuse_odd_rates,
    split_windows,
)
from sensorseq.preprocessing.scale import Scaler
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
        given: dict[str, Any] = {"window_s": window_s, **options}
        values = {name: _plain(value) for name, value in given.items()}
        self.options = use = PreparationOptions(**values, random_state=_seed(random_state))
        check_native_rates(use)
        self.plan = PreparationPlan.of(use)
        if self.plan.cuts_training_separately and use.split_by == "time":
            raise ArgumentError(
                'train_hop_s cannot be combined with split_by="time", because training windows'
                ' would reach into the embargo. Use split_by="group", or remove train_hop_s.'
            )
        if self.plan.cuts_training_separately and use.split is None:
            raise ArgumentError(
                f"train_hop_s={use.train_hop_s!r} applies to training windows, but without a split"
                " there are none; remove it."
            )

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
        configuration = read_configuration(path)
        with noting(f"in the configuration {path}"):
            return cls.from_configuration(configuration)

    @classmethod
    def from_configuration(
        cls, configuration: PrepareConfiguration | Mapping[str, Any], **changes: Any
    ) -> "PreparePipeline":
        """Make the pipeline from a configuration.

        Parameters
        ----------
        configuration : PrepareConfiguration or mapping
            Sections as in a configuration file or the property `configuration`.
        **changes
            Arguments that override the configuration.
        """
        if not isinstance(configuration, PrepareConfiguration):
            configuration = make_configuration(configuration)
        return cls(**pipeline_arguments(configuration.arguments() | changes))

    def to_toml(self) -> str:
        """Return the content of a configuration file for the same pipeline."""
        return make_configuration(self.configuration).to_toml()

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments as plain types, in sections as in a configuration file."""
        return PrepareConfiguration.of(self.arguments).sections()

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as plain types."""
        use = {name: _plain(getattr(self.options, name)) for name in PIPELINE_OPTIONS}
        use["steps"] = [step.to_dict() for step in self.plan.steps]
        for name in ("split", "scale", "balance"):
            use[name] = "none" if use[name] is None else use[name]
        for name in ("split", "channels"):
            if isinstance(use[name], Iterable) and not isinstance(use[name], str):
                use[name] = [float(v) if name == "split" else str(v) for v in use[name]]
        use["rated"] = None if use["rated"] is None else _lists(use["rated"])
        return use

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
                self.options,
                self.configuration,
                recordings,
                lambda use, of_sensor: [each.median_sample_rate_hz for each in of_sensor],
                lambda name, options, of_sensor: PreparePipeline(
                    **pipeline_arguments(options)
                )._prepare(of_sensor, allow_scales=allow_scales, allow_constant=allow_constant),
            )
            if subjects := windows.provenance.get("split", {}).get("subjects"):
                warn_caller(subjects)
            return windows
        if self.options.native_rates:
            raise ArgumentError(
                "native_rates=True needs the recordings of each sensor, {name: recordings}, as"
                " read_sensors returns them."
            )
        return self._prepare(recordings, allow_scales=allow_scales, allow_constant=allow_constant)

    def _prepare(
        self, recordings: Iterable[Recording], *, allow_scales: bool, allow_constant: bool
    ) -> WindowSet:
        taken = self.plan.checked(recordings)
        rates_hz = [sample_rate_of(recording) for recording in taken]
        if not allow_scales:
            refuse_odd_rates([f"recording {each.recording_id!r}" for each in taken], rates_hz)
        given_hz = self.plan.options.sample_rate_hz
        rate, rate_from = common_rate(rates_hz) if given_hz is None else (float(given_hz), "given")
        outcomes, held = cut_alike(
            self.plan, lambda plan: [cut_recording(recording, plan, rate) for recording in taken]
        )
        facts = [recording_facts for recording_facts, _ in outcomes]
        cut = CutRecordings(self.plan, facts, rate, rate_from, held)
        kept, _ = cut.usual(_refuse, allow_scales=allow_scales)
        cut.check_fates()
        sets_of = {recording_facts.recording_id: sets for recording_facts, sets in outcomes}

        def part_of(facts: Facts, group: str, channels: tuple[str, ...]) -> MemoryPart:
            order = [facts.channels.index(name) for name in channels]
            sets = sets_of[facts.recording_id]
            return MemoryPart(recording_id=facts.recording_id, group=group, order=order, sets=sets)

        learned, simultaneous = split_windows(
            cut,
            kept,
            part_of,
            configuration=self.configuration,
            failed={},
            allow_constant=allow_constant,
        )
        subjects = learned.facts.get("split", {}).get("subjects", "")
        together = "" if simultaneous is None else str(simultaneous)
        for text in filter(None, [*odd_values_of(kept), together, subjects]):
            warn_caller(text)
        self.scaler_: Scaler | None = learned.scaler
        self.sample_indices_ = learned.sample_indices
        samples: Any = learned.windows.X
        self.windows_ = replace(learned.windows, X=as_one_array(samples))
        return self.windows_


def _refuse(facts: Facts, error: RecordingError) -> NoReturn:
    raise error


def pipeline_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `prepare` that `PreparePipeline` accepts, converted to its types."""
    if "window_s" not in arguments:
        raise ArgumentError("window_s is not given; give the window length in seconds.")
    use = {name: value for name, value in arguments.items() if name in PIPELINE_OPTIONS}
    for name in CAN_BE_OFF:
        if isinstance(use.get(name), str) and use[name].strip().lower() == "none":
            use[name] = None
    if isinstance(use.get("split"), str):
        raise ArgumentError(f'split={use["split"]!r}: give three fractions, or "none".')
    return use


def _seed(random_state: RandomState) -> int:
    """Return a seed that can be recorded: the given integer, or one drawn from the generator."""
    seed = number(random_state)
    check_random_state(seed)
    return int(seed if isinstance(seed, int) else check_random_state(seed).integers(2**31))


def _plain(value: Any) -> Any:
    """Convert numpy numbers, alone or in a mapping, to Python numbers, for storage in files."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return number(value)


def _lists(value: Any) -> Any:
    """Convert nested tuples to lists, and mappings to dictionaries."""
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
