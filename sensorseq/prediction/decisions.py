"""ClassPredictor: probabilities of classes, and the decisions that rest on them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import check_positive, check_real
from sensorseq.errors import ArgumentError, InputError, check_choice, noting, within_memory
from sensorseq.io.model_file import arrays_below, read_labels
from sensorseq.prediction.fusion import Fusion, join_sensors_outside, refuse_sensors
from sensorseq.prediction.gaps import COMPLETE, DOUBTFUL, EMPTY, judge_windows
from sensorseq.prediction.inputs import Sequences, check_groups
from sensorseq.prediction.outside import OUT_OF_RANGE, STUCK, OutsideWindows
from sensorseq.prediction.predictor import WindowPredictor
from sensorseq.prediction.probabilities import (
    Abstention,
    check_abstention,
    check_shares,
    check_temperature,
    judge,
    recording_prediction,
    softmax,
)
from sensorseq.prediction.sensor_stream import SensorStream, are_recordings, cut_sensors
from sensorseq.prediction.stream import DecisionStream, prediction_plan
from sensorseq.preprocessing.cutting import recorded_hop_s
from sensorseq.recording import Recording
from sensorseq.sensor_windows import SensorWindows
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.windows import WindowSet, iter_recordings


class Decisions(NamedTuple):
    """Labels of windows, masked if the classifier abstains.

    `label` (n_windows,) is the most probable label if `answered`, otherwise masked, so that a
    comparison with it is never true. ``np.where(answered, label.data, "unknown")`` fills the masked
    ones. `answered` is True if the `probability` of that label reaches the threshold.
    """

    label: Any
    probability: NDArray[np.float64]
    answered: NDArray[np.bool_]


class RecordingDecision(NamedTuple):
    """One label for all windows of a recording.

    `probability` is the mean probability of the label, `probabilities` are those of all classes in
    the order of `classes_`, and `vote_share` is the fraction of windows with that label.
    """

    recording_id: Any
    label: Any
    probability: float
    vote_share: float
    n_windows: int
    probabilities: tuple[float, ...]


class ClassPredictor(WindowPredictor):
    """A trained classifier."""

    temperature_: float
    abstention_: Abstention
    # Mean probabilities of the classes in windows left out of the fit; None: they count alike.
    _shares: NDArray[np.float64] | None = None
    # Of a model of several sensors: a model of each, and how their logits are joined.
    sensors_: Mapping[str, Any]
    _fusion: Fusion | None = None

    def _restore_classes(self, take: Callable[[str, Any], Any]) -> None:
        """Restore from a model file what is predicted; `take` gives a field of a type."""
        self.classes_ = read_labels(take("classes", dict))
        self.temperature_ = check_temperature(take("temperature", float))
        abstention = take("abstention", (list, type(None)))
        if abstention is not None:
            self.abstention_ = check_abstention(abstention)
        shares = take("class_shares", (list, type(None)))
        if shares is not None:
            self._shares = check_shares(shares, len(self.classes_))

    def _restore(self, arrays: Mapping[str, NDArray[Any]], take: Callable[[str, Any], Any]) -> None:
        self._restore_classes(take)
        super()._restore(arrays, take)

    def _outputs(self, X: Any, lengths: Any) -> NDArray[np.float64]:
        """Return the logits (n, classes); those of several networks are combined."""
        logits, lacks = self._found(X, lengths)
        self._check_not_empty(lacks)
        return logits

    def _check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        if (lacks == EMPTY).any():
            what, part = ("number", "channel") if self._fusion is None else ("sensor", "sensor")
            failed = f", or every {part} has failed" if self.missing == "outside" else ""
            raise InputError(
                f"window {int(np.argmax(lacks))} has no {what}{failed}, so it has no class; use"
                " predict_or_abstain, which masks such windows, or leave them out."
            )

    def _found(self, X: Any, lengths: Any) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits, equal ones for EMPTY windows, and how much each lacks; see `gaps`."""
        with within_memory("give fewer windows at a time"):
            if self._fusion is not None:
                logits, lacks = self._of_sensors(X, lengths)
                is_empty = lacks.min(axis=1) == EMPTY
                return self._fusion.join(logits, lacks), np.where(is_empty, EMPTY, COMPLETE)
            refuse_sensors(X)
            sequences = self._read_windows(X, lengths)
            if self.missing == "error":
                return self._logits(sequences), np.full(len(sequences), COMPLETE, np.int8)
            parts = []
            for part in self._in_memory(sequences):
                windows, lacks = self._without_failed(part)
                parts.append((np.where(lacks[:, None] == EMPTY, 0.0, self._logits(windows)), lacks))
            logits, lacks = map(np.concatenate, zip(*parts))
            return logits, lacks

    def _without_failed(self, sequences: Sequences) -> tuple[Sequences, NDArray[np.int8]]:
        """Return windows in memory without failed channels, and how much each lacks."""
        is_doubtful = np.zeros(len(sequences), bool)
        if self.missing == "outside" and self._ranges is not None:
            reasons = self._compared(sequences).reasons
            is_stuck, is_out = reasons == STUCK, np.isin(reasons, OUT_OF_RANGE)
            # One channel may be stuck alone, but a wrong scale is mostly that of all channels.
            is_doubtful = is_out.any(axis=1) | self._ranges.are_mostly(is_stuck)
            failed = (is_stuck | is_out)[:, None]
            sequences = replace(sequences, X=np.where(failed, np.nan, sequences.X))
        doubt = np.where(is_doubtful, DOUBTFUL, COMPLETE)
        return sequences, np.maximum(judge_windows(sequences.X), doubt)

    def _of_sensors(self, X: Any, lengths: Any) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return the logits of each sensor (n_sensors, n, K), and what it lacks (n, n_sensors)."""
        assert self._fusion is not None
        windows, present = self._fusion.read(self._open(X, "X"), lengths)
        logits = np.zeros((len(self.sensors_), len(windows), len(self.classes_)))
        lacks = np.full(present.shape, EMPTY, np.int8)
        for name, own, rows in windows.by_sensor():
            at = self._fusion.sensors.index(name)
            with noting(f"in the windows of sensor {name!r}"):
                logits[at, rows], lacks[rows, at] = self.sensors_[name]._found(own, None)
        return logits, lacks

    def _probabilities(self, X: Any, lengths: Any) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return probabilities, and how much each window lacks; see `_found`.

        Those of EMPTY windows are the shares of the classes, which say nothing to a smoothing.
        """
        logits, lacks = self._found(X, lengths)
        probabilities = softmax(logits / self.temperature_)
        is_empty = lacks == EMPTY
        if is_empty.any():
            probabilities[is_empty] = self._class_shares
        return probabilities, lacks

    @property
    def _knows_ranges(self) -> bool:
        if self._fusion is None:
            return super()._knows_ranges
        return all(one._knows_ranges for one in self.sensors_.values())

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:  # noqa: D102
        if self._fusion is None:
            return super().outside(X, lengths)
        windows, _ = self._fusion.read(self._open(X, "X"), lengths)
        found = {
            name: (self.sensors_[name].outside(own), rows)
            for name, own, rows in windows.by_sensor()
        }
        channels = {name: one._channel_names for name, one in self.sensors_.items()}
        return join_sensors_outside(found, channels, len(windows))

    outside.__doc__ = WindowPredictor.outside.__doc__

    def _restore_sensors(
        self,
        arrays: Mapping[str, NDArray[Any]],
        take: Callable[[str, Any], Any],
        load: Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], Any],
    ) -> None:
        """Restore a model of several sensors; `load` makes that of one from its contents."""
        self._restore_classes(take)
        self.preparation_ = None
        self._fusion = fusion = Fusion.restore(take("fusion", dict))
        described = take("sensors", list)
        if len(described) != len(fusion.sensors):
            raise ValueError(f"{len(described)} models for {len(fusion.sensors)} sensors")
        self.sensors_ = {
            name: load(arrays_below(arrays, f"sensor.{at}."), own)
            for at, (name, own) in enumerate(zip(fusion.sensors, described))
        }
        for name, model in self.sensors_.items():
            if model.classes_.tolist() != self.classes_.tolist():
                raise ValueError(f"the model of sensor {name!r} has other classes")

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in their order. DataFrames with columns in any order, if `fit` had names:
            those of DataFrames, or the channels of a WindowSet or file.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.
        """
        class_index = self._outputs(X, lengths).argmax(axis=1)
        return np.asarray(self.classes_[class_index])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return class probabilities: the softmax of the logits divided by `temperature_`.

        For an ensemble, the mean over its members. The result is of shape (n, n_classes), float64;
        columns are in the order of `classes_`.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        return softmax(self._outputs(X, lengths) / self.temperature_)

    @property
    def abstain_threshold_(self) -> float:
        """The threshold chosen by `fit_abstention`."""
        return self.abstention_.threshold

    def predict_or_abstain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        threshold: float | None = None,
    ) -> Decisions:
        """Return the label of each window, masked if it is uncertain.

        Parameters
        ----------
        X, lengths : as in `predict`
        threshold : float, optional
            Lowest probability to answer with. By default the one chosen by `fit_abstention`.

        Returns
        -------
        Decisions
            Labels, probabilities, and which windows were answered.

        Raises
        ------
        ArgumentError
            If `threshold` is out of its range.
        InputError
            If there is no threshold yet.
        """
        self._check_fitted()
        if threshold is None and hasattr(self, "abstention_"):
            threshold = self.abstain_threshold_
        if threshold is None:
            raise InputError(
                "there is no threshold yet: call fit_abstention on held-out windows first, or"
                " give a probability as threshold=."
            )
        check_real("threshold", threshold, 0.0, 1.0, high_open=False)
        rows, lacks = self._probabilities(X, lengths)
        probability = rows.max(axis=1)
        answered = np.array(judge(rows, lacks, threshold), bool)
        label = np.ma.MaskedArray(self.classes_[rows.argmax(axis=1)], mask=~answered)
        return Decisions(label, probability, answered)

    def stream(
        self,
        sample_rate_hz: float | Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        smooth: str = "none",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
        max_wait_s: float | None = None,
    ) -> DecisionStream | SensorStream:
        """Return a stream that classifies samples as they arrive, prepared like in training.

        Its decisions are those of `sensorseq predict` on the whole recording, bit for bit, if the
        samples are complete and evenly spaced at `sample_rate_hz`. The sensor's clock may drift
        and its stamps jitter by less than half a period. Missing samples are bridged by a straight
        line, up to `max_gap_s`; after a longer gap windows start again.

        Parameters
        ----------
        sample_rate_hz : float or mapping of str to float, optional
            Rate of the samples in Hz; by default the rate to which the recordings were resampled.
            Of several sensors, a rate for each name.
        max_gap_s : float, optional
            Longest gap to bridge; by default as in training: ten periods, unless set there.
        max_delay_s : float, default=0
            How long to wait for samples that arrive out of order, by their stamps. All decisions
            come later by this time. Samples that are later still are ignored and counted.
        smooth : {"none", "filter", "lag"}, default="none"
            filter: a decision also rests on the windows before. lag: it waits for the next `lag`
            windows, too; `latency_s` of the stream says how long, and its classes are those of
            `timeline` with the same lag, bit for bit. Across a gap the class may have changed.
        lag : int, default=3
            Windows to wait for, for ``"lag"``.
        mean_dwell_s, transitions
            As in `timeline`.
        max_wait_s : float, optional
            Of several sensors that may be missing: how far the others may be ahead of one, in
            seconds, before it counts as missing. By default the time between windows; samples must
            come in shorter chunks.

        Returns
        -------
        DecisionStream or SensorStream
            With the methods `push` and `flush`. That of several sensors is told the sensor, too:
            ``stream.push("imu", samples, timestamps_s)``.

        Raises
        ------
        InputError
            If the model does not know how its windows were prepared, or its preparation needs
            whole recordings.
        """
        self._check_fitted()
        if self._fusion is not None:
            if smooth != "none":
                raise ArgumentError(
                    f"smooth={smooth!r} is for a stream of one sensor; smooth the decisions of"
                    " several with sequence.LagSmoother."
                )
            if sample_rate_hz is not None and not isinstance(sample_rate_hz, Mapping):
                raise ArgumentError(
                    f"sample_rate_hz={sample_rate_hz!r}: give the rate of each sensor by its name:"
                    f" {', '.join(self.sensors_)}."
                )
            return SensorStream(
                self,
                sample_rate_hz,
                max_gap_s=max_gap_s,
                max_delay_s=max_delay_s,
                max_wait_s=max_wait_s,
            )
        if max_wait_s is not None:
            raise ArgumentError("max_wait_s is for models of several sensors.")
        if isinstance(sample_rate_hz, Mapping):
            raise ArgumentError("sample_rate_hz is one number for a model of one sensor.")
        return DecisionStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            smoothing=self._smoothing(smooth, lag, mean_dwell_s, transitions),
        )

    def timeline(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: str = "marginals",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> Timeline:
        """Return the class over time: segments of one class instead of single windows.

        A robot stays in a class for a while, so the windows before and after a window also say
        something about it. A hidden Markov model over the windows of each recording uses them.

        Parameters
        ----------
        X : array of shape (n_windows, n_timesteps, n_channels), WindowSet, or list of Recording
            Recordings are cut into windows as those of the training were. Of several sensors: as in
            `predict`, or a mapping of each to its recordings, whose ids say which belong together.
        recording_id : array of shape (n_windows,), optional
            The recording of each window; by default that of the WindowSet, or one for all.
        start_s : array of shape (n_windows,), optional
            Start of each window in seconds; a WindowSet has its own.
        lengths : as in `predict`
        window_s : float, optional
            Length of the windows in seconds, if X is an array. By default the hop between them.
        smooth : {"none", "filter", "lag", "viterbi", "marginals"}, default="marginals"
            Which windows count: none but itself; those before; those and `lag` later ones; all
            (viterbi: for the likeliest sequence, marginals: for each window by itself).
        lag : int, default=3
            Windows to wait for, for ``"lag"``.
        mean_dwell_s : float or array of shape (n_classes,), optional
            How long a class lasts on average. By default as in the training recordings, where some
            have several classes; otherwise 60 s, or 5 windows if that is longer. A value that is
            wrong by a factor of 4 changes little.
        transitions : array of shape (n_classes, n_classes), optional
            How often each class (row) is followed by each other (column); 0 where it cannot be. By
            default as in the training recordings, too; otherwise all equally often.

        Returns
        -------
        Timeline
            With `spans`, and the probabilities of each window.

        Raises
        ------
        InputError
            If the times of the windows are not known.
        ArgumentError
            If a dwell time is shorter than a window, or `transitions` have another shape.

        Examples
        --------
        >>> clf.timeline(recordings, mean_dwell_s=30).to_csv("drive.csv")  # doctest: +SKIP
        """
        self._check_fitted()
        if isinstance(X, Recording):
            X = [X]
        if self._fusion is not None and are_recordings(X):
            X = cut_sensors(self.sensors_, X, self._fusion.missing)
        if isinstance(X, (list, tuple)) and X and isinstance(X[0], Recording):
            X = prediction_plan(self.preparation_).prepare(
                [replace(one, label=None, label_spans=()) for one in X]
            )
        X, hop_s = self._open(X, "X"), None
        if isinstance(X, (WindowSet, SensorWindows)):
            hop_s = recorded_hop_s(X.provenance)
            recording_id = X.recording_id if recording_id is None else recording_id
            start_s = X.start_s if start_s is None else start_s
            window_s = X.window_s if window_s is None else window_s
        if start_s is None:
            raise InputError(
                "it is not known when each window begins; give start_s in seconds, a WindowSet that"
                " has it, or recordings."
            )
        starts = np.asarray(start_s, np.float64)
        rows, _ = self._probabilities(X, lengths)
        smoothing = self._smoothing(smooth, lag, mean_dwell_s, transitions)
        if window_s is None:
            hops = np.diff(np.unique(starts))
            window_s = float(np.median(hops)) if len(hops) else 1.0
        return timeline_of(
            rows,
            self.classes_,
            starts,
            check_positive("window_s", window_s),
            recording_id,
            hop_s=hop_s,
            class_shares=self._class_shares,
            **smoothing._asdict(),
        )

    def _smoothing(
        self,
        smooth: str,
        lag: int,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> Smoothing:
        """Return the smoothing; parameters that are None come from the training recordings."""
        learned = None if self.preparation_ is None else self.preparation_.get("dwell")
        if learned is not None and len(learned["mean_s"]) == len(self.classes_):
            mean_dwell_s = learned["mean_s"] if mean_dwell_s is None else mean_dwell_s
            transitions = learned["follows"] if transitions is None else transitions
        return Smoothing(smooth, lag, mean_dwell_s, transitions)

    @property
    def _class_shares(self) -> NDArray[np.float64]:
        """The mean probability of each class in the windows held out from the fit."""
        k = len(self.classes_)
        return np.full(k, 1 / k) if self._shares is None else self._shares

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return one label for each recording, using all its windows.

        Parameters
        ----------
        X, lengths : as in `predict`
        recording_id : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own.
        how : {"mean", "vote"}, default="mean"
            ``"mean"`` takes the class with the highest mean probability, where uncertain windows
            count less. ``"vote"`` takes the majority vote of the windows, which a few confident
            errors cannot change; a tie goes to the higher mean probability.

        Returns
        -------
        list of RecordingDecision
            In the order in which recordings first appear.
        """
        check_choice("how", how, ("mean", "vote"))
        self._check_fitted()
        X = self._open(X, "X")
        if recording_id is None and isinstance(X, (WindowSet, SensorWindows)):
            recording_id = X.recording_id
        if recording_id is None:
            raise InputError(
                "it is not known which recording each window belongs to; give recording_id, or a"
                " WindowSet that has it."
            )
        rows = self.predict_proba(X, lengths)
        named = check_groups(recording_id, len(rows), "recording_id")
        assert named is not None
        return [
            _decide(name, rows[own], how, self.classes_.tolist())
            for name, own in iter_recordings(named)
        ]


def _decide(
    name: Any, probability: NDArray[np.float64], how: str, classes: list[Any]
) -> RecordingDecision:
    vote, best, mean = recording_prediction(probability)
    index = best if how == "mean" else vote
    return RecordingDecision(
        name,
        classes[index],
        float(mean[index]),
        float((probability.argmax(axis=1) == index).mean()),
        len(probability),
        tuple(mean.tolist()),
    )
