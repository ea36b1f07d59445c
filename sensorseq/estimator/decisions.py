"""From probabilities to decisions: when to abstain, and one label for a recording."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import check_integer, check_positive, check_real
from sensorseq.errors import InputError, check_choice, warn_caller
from sensorseq.estimator.base import SensorLSTM
from sensorseq.estimator.feature_head import FeatureChoice
from sensorseq.estimator.fitting import PreparedFit
from sensorseq.estimator.refit import Refit
from sensorseq.estimator.stream import DecisionStream, prediction_pipeline
from sensorseq.export.smoother import write_smoother
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.recording import Recording
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import FixedLag, Smoothing
from sensorseq.training.inputs import check_groups
from sensorseq.training.labels import read_known_labels
from sensorseq.training.out_of_distribution import OutOfDistribution
from sensorseq.training.preparation import seen_recordings
from sensorseq.training.probabilities import (
    NOTABLE_SPREAD,
    Abstention,
    choose_threshold,
    fit_temperature,
    lowest_error_rate,
    probability_spread,
    recording_prediction,
    softmax,
)
from sensorseq.windows import WindowSet, iter_recordings


class Decisions(NamedTuple):
    """Labels of windows, masked where the classifier abstains.

    `label` (n_windows,) is the most probable label where `answered`; masked elsewhere, so that
    comparing a masked label is never true. ``np.where(answered, label.data, "unknown")`` fills the
    masked ones. `answered` says whether the `probability` of that label reaches the threshold.
    """

    label: Any
    probability: NDArray[np.float64]
    answered: NDArray[np.bool_]


class RecordingDecision(NamedTuple):
    """One label for all windows of a recording.

    `probability` is the mean probability of the label, `probabilities` those of all classes in the
    order of `classes_`, and `vote_share` the share of the windows with that label.
    """

    recording_id: Any
    label: Any
    probability: float
    vote_share: float
    n_windows: int
    probabilities: tuple[float, ...]


class DecidingLSTM(SensorLSTM):
    """Probabilities of classes, and the decisions that rest on them."""

    classes_: NDArray[Any]
    temperature_: float
    abstention_: Abstention
    calibrate: bool

    def held_out_predictions(
        self, n_windows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return rows and class probabilities of held-out windows, from before the refit on them.

        The rows are places in the validation part. None if there was no refit, the estimator was
        loaded from a file, or the validation part had another number of windows.

        Parameters
        ----------
        n_windows : int
            Windows of the validation part.
        """
        check_integer("n_windows", n_windows, 0)
        held_out = self._held_out
        if held_out is None or not 0 < len(held_out[0]) <= n_windows:
            return None
        rows, outputs = held_out
        return rows, softmax(outputs / self.temperature_)

    def out_of_fold_predictions(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return rows and class probabilities of windows by models that were fitted without them.

        The rows are places in X as given to `fit`, at most 6,000, see `features`. The folds are
        those on which the features were weighed; the few weights of the sum come from the same
        windows. None if the fit weighed no features, used `X_val`, or the estimator was loaded from
        a file.
        """
        head = self._head
        if head is None or head.given_rows is None or head.out_of_fold is None:
            return None
        return head.given_rows, softmax(head.out_of_fold / self.temperature_)

    @property
    def abstain_threshold_(self) -> float:
        """The threshold chosen by `fit_abstention`."""
        return self.abstention_.threshold

    def fit_abstention(
        self,
        X: Any,
        y: Any = None,
        *,
        error_rate: float = 0.05,
        confidence: float = 0.9,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Choose the probability below which to abstain, on windows that were not used in `fit`.

        This is the lowest threshold for which the windows show that at most `error_rate` of the
        answers are wrong, treating whole groups as the samples; see
        `sensorseq.training.probabilities.choose_threshold`. With probability `confidence` the bound
        holds on new recordings of the same kind. It does not cover other recordings, such as a new
        surface or robot. `save` also stores the result, `abstention_` and `abstain_threshold_`.

        Parameters
        ----------
        X, y, lengths : as in `fit`
            Held-out windows, used neither for training or validation nor for the final score you
            report.
        error_rate : float, default=0.05
            Highest allowed share of wrong answers, above 0 and below 1.
        confidence : float, default=0.9
            Confidence of that bound, above 0 and below 1.
        groups : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own groups, or uses its recordings.
            Without either, windows count as independent, which windows of one recording are not.

        Raises
        ------
        InputError
            If the windows cannot show this for any threshold; the message gives the lowest error
            rate they can show. Also if they were used in `fit`, or have no labels.
        """
        check_is_fitted(self)
        check_real("error_rate", error_rate, 0.0, 1.0, low_open=True)
        check_real("confidence", confidence, 0.0, 1.0, low_open=True)
        X = self._open(X, "X")
        if isinstance(X, WindowSet):
            y = X.y if y is None else y
            groups = X.groups if groups is None else groups
            seen = seen_recordings(self.preparation_, X)
            if seen:
                raise InputError(
                    f"X has {len(seen)} recording(s) that were used for training or validation"
                    f" ({', '.join(seen[:3])}), where the model makes fewer errors than on new"
                    " ones. Give recordings that were not used in fit."
                )
        probability = self.predict_proba(X, lengths)
        n_windows = len(probability)
        class_index = read_known_labels(y, n_windows, "y", "X", self.classes_)
        named = check_groups(groups, n_windows, "groups")
        group_index = np.arange(n_windows)
        if named is not None:
            group_index = np.unique(named, return_inverse=True)[1]
        highest, is_right = probability.max(axis=1), probability.argmax(axis=1) == class_index
        chosen = choose_threshold(
            highest, is_right, group_index, error_rate=error_rate, confidence=confidence
        )
        if chosen is None:
            lowest = lowest_error_rate(highest, is_right, group_index, confidence)
            way = "" if lowest is None else f", or use error_rate={lowest:g}, which these can show"
            raise InputError(
                f"no threshold was found: {n_windows} windows of {group_index.max() + 1} group(s),"
                f" {100 * is_right.mean():.1f} % of them right, cannot show with confidence"
                f" {confidence:g} that at most error_rate={error_rate:g} of the answers are wrong,"
                f" not even for the most confident 30 %. Record more groups{way}."
            )
        self.abstention_ = chosen
        return self

    def predict_or_abstain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
    ) -> Decisions:
        """Return the label of each window, masked where it is too unsure or of no known class.

        Parameters
        ----------
        X, lengths : as in `predict`
        threshold : float, optional
            Lowest probability to answer with. By default the one chosen by `fit_abstention`; with
            `false_alarm_rate`, none is needed.
        false_alarm_rate : float, optional
            Also mask windows that seem to be of no class of the training, such as a new surface,
            and at most about this share of the others: 0.005 to 0.5, in steps of 0.005. It holds
            for recordings like those in `fit`. docs/validation.md states how many unknown surfaces
            this detects.

        Returns
        -------
        Decisions
            Labels, probabilities, and which windows were answered.

        Raises
        ------
        ArgumentError
            If a number is out of its range.
        InputError
            If there is no threshold yet, or `fit` left out too few windows for `false_alarm_rate`.

        Notes
        -----
        The log-probabilities of a window are compared with those of windows that `fit` left out. A
        window is unknown if its fifth nearest neighbour among them is farther than that of all but
        the share `false_alarm_rate` of these windows, measured to windows of other groups.
        """
        check_is_fitted(self)
        known = None if false_alarm_rate is None else self._known_within(false_alarm_rate)
        if threshold is None and hasattr(self, "abstention_"):
            threshold = self.abstain_threshold_
        if threshold is None and known is None:
            raise InputError(
                "there is no threshold yet: call fit_abstention on held-out windows first, or"
                " give a probability as threshold=, or false_alarm_rate=."
            )
        threshold = 0.0 if threshold is None else threshold
        check_real("threshold", threshold, 0.0, 1.0, high_open=False)
        rows = self.predict_proba(X, lengths)
        probability = rows.max(axis=1)
        answered = probability >= threshold
        if known is not None:
            answered &= known[0].distance(rows) <= known[1]
        label = np.ma.MaskedArray(self.classes_[rows.argmax(axis=1)], mask=~answered)
        return Decisions(label, probability, answered)

    def _known_within(self, false_alarm_rate: float) -> tuple[OutOfDistribution, float]:
        """Return the known windows, and the distance above which a window is unknown."""
        if self._known is None:
            raise InputError(
                "false_alarm_rate needs windows that fit left out, which this model does not have:"
                " it was imported, or trained without a validation part. Fit it again."
            )
        return self._known, self._known.threshold(false_alarm_rate)

    def stream(
        self,
        sample_rate_hz: float | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        false_alarm_rate: float | None = None,
        smooth: str = "none",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> DecisionStream:
        """Return a stream that classifies samples as they arrive, prepared as in training.

        Its decisions are those of `sensorseq predict` on the whole recording, bit for bit, if the
        samples are complete and evenly spaced at `sample_rate_hz`. The sensor's clock may drift
        and its stamps jitter by less than half a period. Missing samples are bridged by a straight
        line, up to `max_gap_s`; after a longer gap windows start again.

        Parameters
        ----------
        sample_rate_hz : float, optional
            Rate of the samples in Hz; by default the rate to which the recordings were resampled.
        max_gap_s : float, optional
            Longest gap to bridge; by default as in training: ten periods, unless set there.
        max_delay_s : float, default=0
            How long to wait for samples that arrive out of order, by their stamps. All decisions
            come later by this time. Samples that are later still are ignored and counted.
        false_alarm_rate : float, optional
            Sets `answered` of the decisions, as in `predict_or_abstain`.
        smooth : {"none", "filter", "lag"}, default="none"
            filter: a decision also rests on the windows before. lag: it waits for the next `lag`
            windows, too; `latency_s` of the stream says how long, and its classes are those of
            `timeline` with the same lag, bit for bit. Across a gap the class may have changed.
        lag : int, default=3
            Windows to wait for, for ``"lag"``.
        mean_dwell_s, transitions
            As in `timeline`.

        Returns
        -------
        DecisionStream
            With the methods `push` and `flush`.

        Raises
        ------
        InputError
            If the model does not know how its windows were prepared, or its preparation needs
            whole recordings.
        """
        check_is_fitted(self)
        return DecisionStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            false_alarm_rate=false_alarm_rate,
            smoothing=self._smoothing(smooth, lag, mean_dwell_s, transitions),
        )

    def smoother_to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        smooth: str = "lag",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> None:
        """Write what `stream` smooths as an ONNX model of one step, beside that of `to_onnx`.

        Its inputs are ``probabilities`` (1, n_classes) of the next window, one hop after the last,
        and ``state``; begin a recording with zeros. Its outputs are ``next_state``, to be given
        with the next window; ``smoothed`` (1, n_classes), the probabilities of the window `lag`
        windows before; and ``is_due``, False while there are too few windows. At the end, give
        `lag` more windows with the numbers of the metadata ``says_nothing``, to get what is left.
        Needs the extra ``onnx``.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        smooth, lag, mean_dwell_s, transitions
            As in `stream`.

        Raises
        ------
        InputError
            If the model does not know how its windows were prepared.
        """
        check_is_fitted(self)
        options = prediction_pipeline(self).options
        hop_s = options.hop_s or options.window_s
        smoother = FixedLag.of(
            self._smoothing(smooth, lag, mean_dwell_s, transitions),
            shares=self._class_shares,
            window_s=options.window_s,
            hop_s=hop_s,
        )
        write_smoother(path, smoother, self.classes_.tolist(), hop_s)

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
        """Return the class over time: stretches of one class instead of single windows.

        A robot stays in a class for a while, so the windows before and after a window also say
        something about it. A hidden Markov model over the windows of each recording uses them.

        Parameters
        ----------
        X : array of shape (n_windows, n_timesteps, n_channels), WindowSet, or list of Recording
            Recordings are cut into windows as those of the training were.
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
        check_is_fitted(self)
        if isinstance(X, Recording):
            X = [X]
        if isinstance(X, list | tuple) and X and isinstance(X[0], Recording):
            X = prediction_pipeline(self).prepare(
                [replace(one, label=None, label_spans=()) for one in X]
            )
        X, hop_s = self._open(X, "X"), None
        if isinstance(X, WindowSet):
            hop_s = PreparationOptions.recorded(X.provenance).hop_s
            recording_id = X.recording_id if recording_id is None else recording_id
            start_s = X.start_s if start_s is None else start_s
            if window_s is None and X.sample_rate_hz:
                window_s = X.n_timesteps / X.sample_rate_hz
        if start_s is None:
            raise InputError(
                "it is not known when each window begins; give start_s in seconds, a WindowSet that"
                " has it, or recordings."
            )
        starts = np.asarray(start_s, np.float64)
        rows = self.predict_proba(X, lengths)
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
        """Return the smoothing; options that are None are taken from the training recordings."""
        learned = None if self.preparation_ is None else self.preparation_.get("dwell")
        if learned is not None and len(learned["mean_s"]) == len(self.classes_):
            mean_dwell_s = learned["mean_s"] if mean_dwell_s is None else mean_dwell_s
            transitions = learned["follows"] if transitions is None else transitions
        return Smoothing(smooth, lag, mean_dwell_s, transitions)

    @property
    def _class_shares(self) -> NDArray[np.float64]:
        """What the model gives each class on average, in windows that fit left out."""
        k = len(self.classes_)
        evens_out = self.class_weight is not None or self.sampler != "shuffle"
        if self._known is None or evens_out:
            return np.full(k, 1 / k)
        shares = np.exp(self._known.points.astype(np.float64)).mean(axis=0)
        return np.asarray(shares / shares.sum())

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return one label for each recording, from all its windows.

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
        check_is_fitted(self)
        X = self._open(X, "X")
        if recording_id is None and isinstance(X, WindowSet):
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

    def _learn_probabilities(
        self, prepared: PreparedFit, plan: Refit | FeatureChoice | None
    ) -> None:
        self.temperature_, self._known = 1.0, None
        self.__dict__.pop("abstention_", None)  # chosen for the probabilities of another fit
        held_out = prepared.validation
        groups = None if held_out is None else held_out.groups
        if self._head is not None and isinstance(plan, Refit):
            logits, class_index, groups = plan.left_out(self._head, groups)
        elif held_out is not None and held_out.samples is not None:
            logits = self._ensemble.outputs_of(held_out.samples)
            class_index = held_out.samples.target.cpu().numpy()
        else:
            return
        if self.calibrate:
            self._calibrate(logits, class_index, groups)
        self._known = OutOfDistribution.learn(softmax(logits / self.temperature_), groups)

    def _calibrate(
        self,
        logits: NDArray[np.float64],
        class_index: NDArray[np.int64],
        groups: NDArray[Any] | None,
    ) -> None:
        self.temperature_ = fit_temperature(logits, class_index)
        spread = probability_spread(logits, class_index, self.temperature_, groups)
        if spread > NOTABLE_SPREAD:
            of = "" if groups is None else f" of {len(np.unique(groups))} group(s)"
            warn_caller(
                f"calibrate=True had only {len(logits)} validation windows{of}; with other"
                " validation windows the probability of the predicted class would differ by about"
                f" {spread:.2f}. Hold out more (validation_fraction, X_val), or do not rely on the"
                " probabilities.",
            )


def check_abstention(fields: Sequence[Any]) -> Abstention:
    """Return the result of `fit_abstention`, read from a file."""
    read = Abstention(*fields)
    numbers = all(isinstance(value, int | float) for value in read)
    if not numbers or not 0 <= read.threshold <= 1:
        raise InputError(f"abstention is {list(fields)!r}, expected a threshold and six numbers")
    return read


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
