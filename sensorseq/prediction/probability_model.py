"""ProbabilityModel: from windows of one or several sensors to class probabilities."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError, WindowError, noting, within_memory
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.decisions import Abstention, refuse_empty, softmax
from sensorseq.prediction.gaps import EMPTY
from sensorseq.prediction.inputs import Input, check_sensor
from sensorseq.prediction.members.sensors import SensorSum
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.preparation import Preparation
from sensorseq.recording import Recording
from sensorseq.sensor_windows import (
    UNNAMED,
    SensorWindows,
    align_sensors,
    are_sensors,
    as_sensor_windows,
    check_complete,
)
from sensorseq.sequence.smoothing import Smooth, Smoothing, as_smoothing

_FEWER = "give fewer windows at a time"
Rows = Union[slice, NDArray[np.int64]]
"""The rows of X that have a sensor."""


@dataclass(frozen=True, eq=False)
class ProbabilityModel:
    """The part of a `TrainedModel` that computes class probabilities of windows.

    Attributes
    ----------
    classes : ndarray of shape (K,)
        Labels in the order of the probabilities.
    inputs : dict of str to Input
        How the windows of each sensor are read, scaled and cut, by the sensor's name. The name is
        empty if the model has a single sensor, whose windows are given without a name.
    sum : Sum
        The members, whose weighted logits are added up. The members of a `SensorSum` are the sums
        of several sensors.
    temperature : float
        Divisor of the logits.
    shares : ndarray of shape (K,) or None
        Mean probability of each class in windows left out of the fit; None if unknown.
    abstention : Abstention or None
        The threshold of `fit_abstention`.
    """

    classes: NDArray[Any]
    inputs: Mapping[str, Input]
    sum: Sum
    temperature: float = 1.0
    shares: NDArray[np.float64] | None = None
    abstention: Abstention | None = None

    @property
    def names_sensors(self) -> bool:
        """True if windows and samples are given with the name of their sensor."""
        return isinstance(self.sum, SensorSum)

    @property
    def input(self) -> Input:
        """The input of a model of one sensor."""
        if len(self.inputs) != 1:
            raise InputError(
                f"the model has the sensors {', '.join(self.inputs)}; take one of `model.inputs`."
            )
        return next(iter(self.inputs.values()))

    @property
    def missing(self) -> str:
        """The treatment of missing samples and sensors; see `SensorLSTMClassifier`."""
        return next(iter(self.inputs.values())).missing

    @property
    def has_ranges(self) -> bool:
        """True if the model has the ranges of its training windows, which `outside` needs."""
        return all(of_sensor.ranges is not None for of_sensor in self.inputs.values())

    @property
    def preparation(self) -> Preparation | None:
        """How the windows were prepared; None if there are several sensors, each with its own."""
        return None if self.names_sensors else self.input.preparation

    # From windows to logits

    def read(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[int, dict[str, tuple[Windows, Rows]]]:
        """Return the number of windows, and each sensor's windows with their rows in X."""
        if not self.names_sensors:
            windows = self.input.read(X, lengths)
            return len(windows), {UNNAMED: (windows, slice(None))}
        sets = self.read_sensors(X, lengths)
        of_sensors: dict[str, tuple[Windows, Rows]] = {}
        for name, of_sensor, rows in sets.by_sensor():
            with in_sensor(name):
                of_sensors[name] = self.inputs[name].read(of_sensor), rows
        return len(sets), of_sensors

    def read_sensors(self, X: Any, lengths: Any = None) -> SensorWindows:
        """Return the windows of several sensors.

        Raises
        ------
        InputError
            If X has sensors that the model does not know, or lacks sensors that the model needs.
        """
        if lengths is not None:
            raise InputError(
                "lengths cannot be given with several sensors; mark missing samples with NaN."
            )
        if not are_sensors(X):
            raise InputError(
                f"the model has several sensors; give X as {{name: windows}} with the names"
                f" {', '.join(self.inputs)}."
            )
        windows, sensors = as_sensor_windows(X), list(self.inputs)
        for name in windows:
            check_sensor(name, sensors)
        if self.missing == "error":
            check_complete(windows, sensors)
        return windows

    def of_sensors(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return all sensors' logits (n_sensors, n, K) and `lacks` (n, n_sensors); see `gaps`."""
        with within_memory(_FEWER):
            n_windows, of_sensors = self.read(X, lengths)
            logits = np.zeros((len(self.inputs), n_windows, len(self.classes)))
            lacks = np.full((n_windows, len(self.inputs)), EMPTY, np.int8)
            for at, (name, of_sensor) in enumerate(self.inputs.items()):
                if name in of_sensors:
                    windows, rows = of_sensors[name]
                    with in_sensor(name):
                        members = self.sum.of_sensor(name)
                        found = of_sensor.logits_and_lacks(windows, members)
                    logits[at, rows], lacks[rows, at] = found
        return logits, lacks

    def logits_and_lacks(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (n, K) (zeros for an EMPTY window) and `lacks` (n,); see `gaps`."""
        if self.names_sensors:
            return self.sum.join(*self.of_sensors(X, lengths))
        with within_memory(_FEWER):  # without the arrays of `of_sensors`, for speed
            return self.input.logits_and_lacks(self.input.read(X, lengths), self.sum)

    def check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        """Raise an InputError if a window is EMPTY and therefore cannot be classified."""
        words = ("sensor", "sensor") if self.names_sensors else ("number", "channel")
        refuse_empty(lacks, self.missing, *words)

    def cut(self, X: Any, hop_s: float | None = None) -> Any:
        """Cut recordings into windows as in training; return anything else unchanged.

        The recordings of several sensors are given by the name of the sensor, and their windows are
        aligned.
        """
        recordings = X if self.names_sensors else {UNNAMED: X}
        given = recordings.values() if isinstance(recordings, Mapping) else ()
        if not any(map(_are_recordings, given)):
            return X
        sets, slops = {}, []
        problem: WindowError | None = None
        for name, of_sensor in recordings.items():
            check_sensor(name, list(self.inputs))
            slops.append(self.inputs[name].plan(hop_s).options.slop_s)
            try:
                with in_sensor(name, "recordings"):
                    several = [of_sensor] if isinstance(of_sensor, Recording) else of_sensor
                    sets[name] = self.inputs[name].cut(several, hop_s)
            except WindowError as error:  # the recordings are too short, or there are none
                if self.missing == "error":
                    raise
                problem = error
        if problem is not None and not sets:
            raise problem
        if not self.names_sensors:
            return sets[UNNAMED]
        slop_s = None if None in slops else max(slop for slop in slops if slop is not None)
        missing = "error" if self.missing == "error" else "expected"  # without "outside"
        return align_sensors(sets, slop_s=slop_s, missing=missing)

    # From logits to probabilities

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """The mean probability of each class in windows left out of the fit.

        All classes have the same probability if these means are unknown.
        """
        k = len(self.classes)
        return np.full(k, 1 / k) if self.shares is None else self.shares

    def logits(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits (n, K), not yet divided by the temperature."""
        logits, lacks = self.logits_and_lacks(X, lengths)
        self.check_not_empty(lacks)
        return logits

    def class_probabilities(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return probabilities (n, K); an EMPTY window raises an error."""
        return softmax(self.logits(X, lengths) / self.temperature)

    def probabilities(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return probabilities (n, K) and `lacks` (n,); see `gaps`.

        The probabilities of an EMPTY window are `class_shares`, which do not affect smoothing.
        """
        return self.decided(*self.logits_and_lacks(X, lengths))

    def decided(
        self, logits: NDArray[np.float64], lacks: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return probabilities (n, K) and `lacks` (n,) from the result of `logits_and_lacks`."""
        probabilities = softmax(logits / self.temperature)
        is_empty = lacks == EMPTY
        if is_empty.any():
            probabilities[is_empty] = self.class_shares
        return probabilities, lacks

    def smoothing(self, smooth: Smooth) -> Smoothing:
        """Check a `Smoothing`, and replace fields that are None by values learned in training."""
        return self.with_learned_dwell(as_smoothing(smooth))

    def with_learned_dwell(self, smoothing: Smoothing) -> Smoothing:
        """Replace fields that are None by values learned in training, if there are any."""
        learned = None if self.preparation is None else self.preparation.get("dwell")
        if learned is not None and len(learned["mean_s"]) == len(self.classes):
            if smoothing.mean_dwell_s is None:
                smoothing = smoothing._replace(mean_dwell_s=learned["mean_s"])
            if smoothing.transitions is None:
                smoothing = smoothing._replace(transitions=learned["follows"])
        return smoothing


def in_sensor(name: str, what: str = "windows") -> AbstractContextManager[None]:
    """Add the name of a sensor, if it has one, to errors about its windows or recordings."""
    return noting(f"in the {what} of sensor {name!r}") if name else nullcontext()


def _are_recordings(X: Any) -> bool:
    """Test whether X is a recording, or a list of recordings."""
    first = X[0] if isinstance(X, (list, tuple)) and X else X
    return isinstance(first, Recording)
