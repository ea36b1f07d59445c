"""Plan which windows the members of a fit learn from, and on which folds they are weighed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.estimator.fit_windows import ScaledFit
from sensorseq.features.ridge import MOST_WINDOWS
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.learners.all_windows import (
    N_FOLDS,
    AllWindows,
    Stream,
    make_folds,
    seed_of,
    seen_windows,
)
from sensorseq.learners.kinds import learners_of
from sensorseq.learners.learner import Learner
from sensorseq.learners.motors import motors_learner
from sensorseq.learners.weigh import draw_windows
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.members.motors import MOTORS
from sensorseq.preprocessing.windowing.balance import weights_of_few_recordings
from sensorseq.training import TrainingData
from sensorseq.training.engine import TrainingJob
from sensorseq.training.streamed_data import (
    HELD,
    StreamedData,
    make_data,
    make_renewal,
    window_bytes,
)

FEW_WINDOWS = 20_000  # largest number of windows for which refit="auto" refits the model


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan of the fits that follow the networks of the training part.

    `learners` fit members on features; if there are none, `reason` tells why. If `refits` is true,
    the final model learns from all windows. Its networks are those of the folds if `keeps_folds` is
    true, and networks trained on all windows otherwise. `windows` is None if nothing more is
    fitted.
    """

    windows: AllWindows | None = None
    learners: Mapping[str, Learner] = field(default_factory=dict)
    refits: bool = False
    keeps_folds: bool = False
    reason: str = "features=None"

    def count_of_all(self, n_models: int) -> int:
        """Return how many networks are trained on all windows."""
        return n_models if self.refits and not self.keeps_folds else 0

    def count_networks(self, n_models: int) -> int:
        """Return how many networks are trained in addition to `n_models` on the training part."""
        if self.windows is None:
            return 0
        n_folds = len(self.windows.folds) - self.windows.has_held_out
        return n_folds + self.count_of_all(n_models)


def make_plan(
    parameters: Mapping[str, Any], scaled: ScaledFit, jobs: Sequence[TrainingJob], entropy: int
) -> Plan:
    """Plan a fit; `jobs` train the networks on the training part.

    Raises
    ------
    ArgumentError
        If the windows do not allow `features`, `motors` or `refit`.
    """
    learners, refit = learners_of(parameters["features"]), parameters["refit"]
    has_motors = parameters["motors"] is not None
    validation = scaled.data.validation
    in_file = scaled.data.train.are_stored or any(
        isinstance(part, StreamedData) for part in scaled.samples
    )
    has_more = validation is not None and scaled.data.given_validation is None
    n_windows = len(scaled.data.train) + (len(validation) if has_more and validation else 0)
    # after a refit, a warm start would validate on windows that the networks were trained on
    allows_auto = n_windows <= FEW_WINDOWS and not (parameters["warm_start"] or in_file)
    refits = has_more and (refit == "all" or (refit == "auto" and allows_auto))
    if in_file and refits:
        raise ArgumentError(
            "refit='all' is not possible, because the windows are read from their file in parts."
            " Use refit='auto' or None."
        )
    if not learners and not refits and not has_motors:
        return Plan()
    if in_file and validation is None:
        return _without_features(
            parameters,
            "the windows are read from their file in parts, and none of them are held out",
        )
    windows = _join_parts(scaled, jobs, entropy, in_file=in_file, is_sample=not refits)
    sources = [each for each in (scaled.data.source, scaled.data.source_val) if each is not None]
    motors = motors_learner(parameters["motors"], scaled.model.input, windows.seen, sources)
    if motors is not None:
        learners[MOTORS] = motors
    if not learners:
        reason = "a motor never moves" if has_motors else "features=None"
        return Plan(windows if refits else None, refits=refits, reason=reason)
    for learner in learners.values():
        learner.check(windows.seen)
    several = refits or validation is None
    part = scaled.data.train if windows.part is None else windows.part
    folds = make_folds(windows.seen, part, windows.n_train, entropy, several=several)
    if not folds:
        why = "there are too few windows or groups to leave some out"
        plan = _without_features(parameters, why)
        return replace(plan, windows=windows, refits=True) if refits else plan
    # together, the networks of the folds have seen all windows, and their mean is more accurate
    # than one network
    is_covered = len(folds) == N_FOLDS and len(jobs) == 1
    keeps_folds = refits and refit == "auto" and is_covered
    return Plan(replace(windows, folds=tuple(folds)), learners, refits, keeps_folds)


def _without_features(parameters: Mapping[str, Any], why: str) -> Plan:
    """Return the plan of the LSTM alone; raise an error if the user asked for certain features."""
    asked = ("features", "auto"), ("motors", None)
    for name, usual in asked:
        if parameters[name] not in (usual, None):
            raise ArgumentError(f"{name}={parameters[name]!r} cannot be weighted: {why}.")
    return Plan(reason=why)


def _join_parts(
    scaled: ScaledFit,
    jobs: Sequence[TrainingJob],
    entropy: int,
    *,
    in_file: bool,
    is_sample: bool,
) -> AllWindows:
    """Return the windows of both parts or, if `is_sample` is true, a sample of them if many."""
    fit_data, form, config = scaled.data, scaled.format, jobs[0].config
    train, validation = fit_data.train, fit_data.validation
    share = _shares(train, validation)
    is_drawn = False
    if validation is not None and is_sample:
        # only features are fitted, for which a sample of the windows is enough
        most = MOST_WINDOWS
        if in_file:
            n_bytes = window_bytes(train, form, training=True)
            most = max(1, min(most, buffer_bytes() // (HELD * n_bytes)))
        drawn = _draw_sample(train, validation, most, entropy)
        is_drawn = len(drawn) < len(train) + len(validation)
        if is_drawn:
            of_train = drawn < len(train)
            share = None if share is None else share[drawn]
            validation = validation.take(drawn[~of_train] - len(train))
            train = train.take(drawn[of_train])
    data: Any = scaled.samples[0]
    apart: Any = None  # validation windows that were given separately
    part, given_groups = None, None
    if fit_data.given_validation is not None:
        assert validation is not None
        apart, given_groups = scaled.samples[1], validation.groups
        if is_drawn:
            data = make_data(train, form, fit_data.target, training=True)
            apart = make_data(validation, form, fit_data.target, training=False)
    else:
        windows = fit_data.windows
        rows: list[Any] = [half.rows for half in (train, validation) if half is not None]
        part = windows.take(np.searchsorted(np.asarray(windows.rows), np.concatenate(rows)))
        if validation is not None:
            data = make_data(part, form, fit_data.target, training=True)
    assert isinstance(data, TrainingData)
    assert not isinstance(apart, StreamedData)
    changed = None
    if form.augment is not None:
        without_patch = replace(form, patch=None)
        seed = seed_of(entropy, Stream.COPIES)
        changed = make_renewal(train if part is None else part, without_patch, data, seed)
    seen = seen_windows(data, apart, share, config, len(train))
    given = part, data, seen, config, len(train), entropy, given_groups
    return AllWindows(*given, changed=changed)


def _draw_sample(train: Windows, validation: Windows, most: int, entropy: int) -> NDArray[np.int64]:
    """Draw up to `most` windows of both parts; return their positions in the joined parts."""
    target = np.concatenate([train.target, validation.target])
    rng = np.random.default_rng(seed_of(entropy, Stream.FEATURES))
    return draw_windows(target, np.arange(len(train)), most, rng)


def _shares(train: Windows, validation: Windows | None) -> NDArray[np.float64] | None:
    """Return window weights that balance the classes if there are few recordings, or else None."""
    parts = [part for part in (train, validation) if part is not None]
    groups = [part.groups for part in parts if part.groups is not None]
    if len(groups) < len(parts) or train.weight is not None:
        return None
    target = np.concatenate([part.target for part in parts])
    return weights_of_few_recordings(np.concatenate(groups), target)
