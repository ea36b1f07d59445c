"""ClassifierMethods: what every trained classifier does with windows, recordings and samples."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_groups, check_positive, check_real
from sensorseq.errors import InputError, check_choice
from sensorseq.prediction.checked_windows import refuse_path
from sensorseq.prediction.decisions import (
    Decisions,
    RecordingDecision,
    answered_windows,
    decide_recording,
)
from sensorseq.prediction.outside import OutsideWindows, join_sensors_outside
from sensorseq.prediction.probability_model import ProbabilityModel
from sensorseq.prediction.stream import DecisionStream
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.sensor_windows import window_set_of
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import Smooth
from sensorseq.windows import iter_recordings


class ClassifierMethods:
    """The methods that a `TrainedModel` shares with the classifiers that hold one."""

    @abstractmethod
    def _fitted_model(self) -> ProbabilityModel:
        """Return the model, or raise an error if there is none yet."""

    @abstractmethod
    def _open(self, X: Any, name: str = "X") -> Any:
        """Return the windows in X, which the argument `name` may give as a path."""

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in the order of the file. Columns of DataFrames may be in any order if the
            channels had names in `fit`, from DataFrames, a WindowSet or a file. A `TrainedModel`
            does not read files.
        lengths : array of shape (n,), int, optional
            Number of valid steps of each window of a single sensor.
        """
        X, model = self._open(X), self._fitted_model()
        return np.asarray(model.classes[model.logits(X, lengths).argmax(axis=1)])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return class probabilities: the softmax of the logits divided by the temperature.

        For an ensemble, the probabilities are averaged over its members. The result is a float64
        array of shape (n, n_classes) with columns in the order of the classes.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        X, model = self._open(X), self._fitted_model()
        return model.class_probabilities(X, lengths)

    def predict_or_abstain(
        self, X: Any, lengths: ArrayLike | None = None, *, threshold: float | None = None
    ) -> Decisions:
        """Return the label of each window, with uncertain labels masked.

        Parameters
        ----------
        X, lengths : as in `predict`
        threshold : float, optional
            Minimum probability for which a label is returned; by default, the threshold chosen by
            `fit_abstention`.

        Returns
        -------
        Decisions
            The labels, the probabilities, and which windows got a label.

        Raises
        ------
        ArgumentError
            If `threshold` is out of range.
        InputError
            If no threshold is given and none has been chosen.
        """
        X, model = self._open(X), self._fitted_model()
        if threshold is None and model.abstention is not None:
            threshold = model.abstention.threshold
        if threshold is None:
            raise InputError(
                "there is no threshold yet: call fit_abstention on held-out windows first, or"
                " give a probability as threshold=."
            )
        check_real("threshold", threshold, 0.0, 1.0, high_open=False)
        rows, lacks = model.probabilities(X, lengths)
        probability = rows.max(axis=1)
        answered = np.array(answered_windows(rows, lacks, threshold), bool)
        label = np.ma.MaskedArray(model.classes[rows.argmax(axis=1)], mask=~answered)
        return Decisions(label, probability, answered)

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return one label for each recording, based on all its windows.

        Parameters
        ----------
        X, lengths : as in `predict`
        recording_id : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its recordings.
        how : {"mean", "vote"}, default="mean"
            ``"mean"`` returns the class with the highest mean probability, so uncertain windows
            count less. ``"vote"`` returns the majority vote of the windows, which a few confident
            errors cannot change; a tie goes to the class with the higher mean probability.

        Returns
        -------
        list of RecordingDecision
            One decision for each recording, in the order in which the recordings first appear.
        """
        X, model = self._open(X), self._fitted_model()
        check_choice("how", how, ("mean", "vote"))
        if recording_id is None and (windows := window_set_of(X)) is not None:
            recording_id = windows.recording_id
        if recording_id is None:
            raise InputError(
                "the recording of each window is unknown; give recording_id, or a WindowSet that"
                " has it."
            )
        probabilities = model.class_probabilities(X, lengths)
        ids = check_groups("recording_id", recording_id, len(probabilities))
        assert ids is not None
        return [
            decide_recording(name, probabilities[rows], how, model.classes.tolist())
            for name, rows in iter_recordings(ids)
        ]

    def timeline(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: Smooth = "marginals",
    ) -> Timeline:
        """Return the class over time, as segments of one class instead of single windows.

        A robot usually stays in one class for a while, so the neighbors of a window are also
        evidence for its class. A hidden Markov model of each recording uses this evidence.

        Parameters
        ----------
        X : array of shape (n_windows, n_timesteps, n_channels), WindowSet, or list of Recording
            Recordings are cut into windows as in training.
        recording_id : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its recordings, and an
            array is treated as one recording.
        start_s : array of shape (n_windows,), optional
            Start time of each window in seconds; by default, a WindowSet provides its start times.
        lengths : as in `predict`
        window_s : float, optional
            Length of the windows in seconds, if X is an array; by default, the time from one window
            to the next.
        smooth : {"none", "filter", "lag", "marginals"} or Smoothing, default="marginals"
            Which windows determine the class of a window. ``"none"`` uses only that window,
            ``"filter"`` also uses all earlier windows, and ``"lag"`` additionally uses the next
            three windows. ``"marginals"`` uses all windows. A `sensorseq.sequence.Smoothing` also
            sets the lag, how long classes last, and which classes follow which.

        Returns
        -------
        Timeline
            The timeline, with its `spans` and the probabilities of each window.

        Raises
        ------
        InputError
            If the times of the windows are unknown.
        ArgumentError
            If `smooth` is not known or does not use a field that is given, if a dwell time is
            shorter than a window, or if `transitions` has a wrong shape.

        Examples
        --------
        >>> usual = Smoothing(mean_dwell_s=30)  # doctest: +SKIP
        >>> clf.timeline(recordings, smooth=usual).to_csv("drive.csv")  # doctest: +SKIP
        """
        X, model = self._open(X), self._fitted_model()
        refuse_path(X)
        smoothing = model.smoothing(smooth)
        X, hop_s = model.cut(X), None
        if (windows := window_set_of(X)) is not None:
            hop_s = Provenance.of(windows.provenance).hop_s
            recording_id = windows.recording_id if recording_id is None else recording_id
            start_s = windows.start_s if start_s is None else start_s
            window_s = windows.window_s if window_s is None else window_s
        if start_s is None:
            raise InputError(
                "the start of each window is unknown; give start_s in seconds, a WindowSet that has"
                " it, or recordings."
            )
        starts = np.asarray(start_s, np.float64)
        rows, _ = model.probabilities(X, lengths)
        if window_s is None:
            hops = np.diff(np.unique(starts))
            window_s = float(np.median(hops)) if len(hops) else 1.0
        return timeline_of(
            rows,
            model.classes,
            starts,
            check_positive("window_s", window_s),
            recording_id,
            hop_s=hop_s,
            class_shares=model.class_shares,
            smooth=smoothing,
        )

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike all training windows, such as windows recorded in a different unit.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        OutsideWindows
            The windows that were found, with the reason for each channel.

        Raises
        ------
        InputError
            If the model has no ranges because it was imported.

        Notes
        -----
        `fit` records the extremes of its windows, except those of the test part; `adapt` and a warm
        start widen these extremes. A window is outside if any channel lies too far beyond the
        recorded extremes. For values, the limit is half of the recorded range. For the standard
        deviation, and for the fraction of the power in each of eight frequency bands, the limit is
        a factor of 10. For the standard deviation relative to the other channels, the limit is a
        factor of 3. A window is also outside if it has a constant channel that was never constant
        in training. docs/validation.md lists the faults that this method finds and those that it
        misses.
        """
        X, model = self._open(X), self._fitted_model()
        n_windows, of_sensors = model.read(X, lengths)
        found = {
            name: (model.inputs[name].outside(windows), rows)
            for name, (windows, rows) in of_sensors.items()
        }
        channels = {name: of_sensor.channel_names for name, of_sensor in model.inputs.items()}
        return join_sensors_outside(found, channels, n_windows)

    def stream(
        self,
        sample_rate_hz: float | Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
        smooth: Smooth = "none",
    ) -> DecisionStream:
        """Return a stream that prepares samples as in training and classifies them as they arrive.

        If the samples are complete and evenly spaced at `sample_rate_hz`, the decisions of the
        stream are bit for bit those of `sensorseq predict` on the whole recording. The sensor's
        clock may drift, and its timestamps may jitter by less than half a period. Samples missing
        in a gap of up to `max_gap_s` are interpolated linearly; after a longer gap, new windows
        begin.

        Parameters
        ----------
        sample_rate_hz : float or mapping of str to float, optional
            Rate of the samples in Hz, or the rate of each of several sensors; by default, the rate
            to which the recordings were resampled.
        max_gap_s : float, optional
            Longest gap to bridge; by default, the value used in training, which is ten periods
            unless it was set.
        max_delay_s : float, default=0
            How long to wait for samples that arrive out of order according to their timestamps.
            All decisions are delayed by this time. Samples that arrive even later are ignored and
            counted.
        max_wait_s : float, optional
            Only for several sensors that may be missing. A sensor counts as missing when the
            samples of another sensor are more than this many seconds ahead of its own samples. By
            default, the time between windows. Samples must be pushed in chunks shorter than this
            time.
        smooth : {"none", "filter", "lag"} or Smoothing, default="none"
            Only for one sensor. ``"filter"`` also uses the earlier windows for a decision.
            ``"lag"`` additionally waits for the next three windows (``Smoothing("lag", lag=5)`` for
            five), which delays each decision by the `latency_s` of the stream; the classes are bit
            for bit those of `timeline` with the same lag. The class may change during a gap between
            windows.

        Returns
        -------
        DecisionStream
            The stream, with the methods `push` and `flush`. For several sensors, pass the sensor's
            name first: ``stream.push("imu", samples, timestamps_s)``.

        Raises
        ------
        InputError
            If the model has no record of how its windows were prepared, or if the preparation needs
            whole recordings.
        ArgumentError
            If an argument does not match the number of sensors.
        """
        model = self._fitted_model()
        return DecisionStream(
            model,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            max_wait_s=max_wait_s,
            smoothing=model.smoothing(smooth),
        )
