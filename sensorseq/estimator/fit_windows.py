"""The first steps of a fit: check its arguments, read windows, hold some out, scale them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sensorseq.base.checks import check_groups, check_sample_weight, check_unlabeled
from sensorseq.errors import ArgumentError, InputError, LeakWarning, SplitError, warn_caller
from sensorseq.estimator.report import check_class_shares, warn_of_label_channels
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.overlap import check_continuity, check_overlap
from sensorseq.learners.kinds import learners_of
from sensorseq.learners.motors import check_motors
from sensorseq.ops.gpu_check import check_before_fit
from sensorseq.prediction.checked_windows import (
    Windows,
    WindowShape,
    is_table,
    windows_of,
)
from sensorseq.prediction.frames import refuse_panel
from sensorseq.prediction.inputs import PREDICTION_ARGUMENTS, Input, refuse_sensors
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import TrainedRanges
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.preparation import Preparation, check_same_preparation
from sensorseq.preprocessing.scale import PHYSICAL, Scaler
from sensorseq.preprocessing.split import folds_in_time, holdout_by_group
from sensorseq.sensor_windows import UNNAMED
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.batches import valid_lengths
from sensorseq.training.inputs import (
    SETS,
    check_axis_order,
    check_channels_have_numbers,
    open_windows,
    refuse_rows,
)
from sensorseq.training.labels import ClassTarget, draw_entropy
from sensorseq.training.parameters import check_device, check_parameters, resolve_device
from sensorseq.training.prepared_windows import (
    check_parts,
    describe_preparation,
    read_training_file,
    refuse_scaled,
    warn_of_another_scale,
    without_test,
)
from sensorseq.training.streamed_data import StreamedData, make_data
from sensorseq.training.window_format import AUTO, WindowFormat, check_patch, fit_patch, make_patch
from sensorseq.windows import WindowSet, rows_of

REFITS = ("auto", "all")
_MOST_STORED = 4096  # ranges are learned from at most this many windows of a prepared file


@dataclass(frozen=True)
class FitArguments:
    """The checked arguments of a fit; `earlier` is the model that the fit continues.

    All seeds are derived from `entropy` and are independent: an extra draw from one seed does not
    affect the other seeds. For each network, `member_seeds` contains one seed for the initial
    weights and one seed for training.
    """

    parameters: Mapping[str, Any]
    config: TrainingConfig
    device: torch.device
    entropy: int
    split_seed: np.random.SeedSequence
    member_seeds: list[tuple[np.random.SeedSequence, np.random.SeedSequence]]
    earlier: TrainedModel | None = None


@dataclass(frozen=True)
class FitData:
    """The windows of a fit, read and checked; `hold_out` splits them.

    `windows` are all windows of X, split into `train` and `validation`. If validation windows were
    given separately, they are in both `validation` and `given_validation`. `split` names the part
    of each window, if X has a split. `source` and `source_val` are the objects given as X and
    X_val, or None for arrays. `target` contains the classes, and `column_names` are the column
    names of a 2-D table.
    """

    windows: Windows
    train: Windows
    target: ClassTarget
    validation: Windows | None = None
    given_validation: Windows | None = None
    split: NDArray[Any] | None = None
    source: WindowSet | None = None
    source_val: WindowSet | None = None
    scaler: Scaler | None = None
    had_lengths: bool = False
    column_names: list[str] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether `hold_out` draws the validation windows from windows in memory."""
        return self.split is None and self.given_validation is None and not self.windows.are_stored

    def preparation(self, earlier: Preparation | None, *, continues: bool) -> Preparation | None:
        """Describe the preparation of the windows; `earlier` is the preparation in the last fit."""
        sets = [source for source in (self.source, self.source_val) if source is not None]
        here = earlier if continues else None
        if sets and (continues or self.source is not None):
            here = describe_preparation(*sets, with_dwell=not continues)
            if continues and earlier is not None:
                for windows in sets:
                    check_same_preparation(earlier, windows)
                # recordings of the new windows also count as seen
                here = {**earlier, "recordings": {**earlier["recordings"], **here["recordings"]}}
        if self.source_val is not None:
            check_same_preparation(here, self.source_val, "X_val")
        return here


@dataclass(frozen=True)
class ScaledFit:
    """The scaled windows of a fit, and the model before its networks are trained.

    `train` and `validation` are the inputs of the networks; `samples` are the same windows before
    their samples were joined into steps. All of them may be streamed. `findings` describe faults in
    the windows.
    """

    data: FitData
    model: TrainedModel
    format: WindowFormat
    train: TrainingData | StreamedData
    validation: TrainingData | StreamedData | None
    samples: tuple[TrainingData | StreamedData, TrainingData | StreamedData | None]
    findings: tuple[Finding, ...]

    def held(self) -> tuple[Windows | None, Windows | None]:
        """Return both parts as scaled windows with channel and class names; None if streamed."""
        train, validation = (
            replace(
                part,
                X=data.X.cpu().numpy(),
                lengths=valid_lengths(data),
                channels=self.model.channels,
                classes=np.array([str(label) for label in self.model.classes]),
            )
            if part is not None and isinstance(data, TrainingData)
            else None
            for part, data in zip(
                (self.data.train, self.data.validation), self.samples, strict=True
            )
        )
        return train, validation


def check_arguments(
    parameters: Mapping[str, Any], earlier: TrainedModel | None = None
) -> FitArguments:
    """Check all arguments of an estimator before doing any work.

    `earlier` is the model that the fit continues.
    """
    check_refit(parameters["features"], parameters["refit"], parameters["warm_start"])
    check_motors(parameters["motors"])
    config = check_parameters(parameters)
    check_patch(parameters["patch"])
    n_models = parameters["n_models"]
    entropy = draw_entropy(parameters["random_state"])
    # in this order, so that the first of several networks gets the same seeds as a single network
    split_seed, *streams = np.random.SeedSequence(entropy).spawn(1 + 2 * n_models)
    member_seeds = list(zip(streams[::2], streams[1::2], strict=True))
    n_earlier = n_models if earlier is None else len(earlier.lstm.networks)
    if n_earlier != n_models:
        raise ArgumentError(
            f"warm_start=True continues n_models={n_models} network(s), but the last fit kept"
            f" {n_earlier}. Fit again with warm_start=False; with refit='all' or"
            " refit=None, the fit then keeps n_models networks."
        )
    device, engine = parameters["device"], parameters["engine"]
    # device="auto" means the CPU if the native engine is requested
    wanted = "cpu" if (device, engine) == ("auto", "native") else device
    if check_device(wanted) != "cpu":
        check_before_fit(wanted)
    dtype: torch.dtype = getattr(torch, parameters["dtype"])
    resolved = resolve_device(wanted, hidden_size=parameters["hidden_size"], dtype=dtype)
    return FitArguments(parameters, config, resolved, entropy, split_seed, member_seeds, earlier)


# 1. Read windows


def read_windows(
    arguments: FitArguments,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    groups: Any = None,
    lengths: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    groups_val: Any = None,
    lengths_val: Any = None,
) -> FitData:
    """Read and check windows and labels, given as the arguments of `fit`."""
    earlier, parameters, names = arguments.earlier, arguments.parameters, None
    refuse_panel(X, "X", y)
    refuse_panel(X_val, "X_val", y_val)
    if is_table(X):
        # scikit-learn compares the column names with those stored in an estimator
        checker, is_new = BaseEstimator(), earlier is None
        if earlier is not None and earlier.input.flat_timesteps is not None:
            checker.n_features_in_ = earlier.input.flat_timesteps
            if earlier.input.feature_names is not None:
                checker.feature_names_in_ = np.array(earlier.input.feature_names, dtype=object)
        if is_new or hasattr(checker, "n_features_in_"):
            validate_data(checker, X, reset=is_new, skip_check_array=True)
        names = getattr(checker, "feature_names_in_", None)
        X = read_table(X, "X")
    if is_table(X_val):
        X_val = read_table(X_val, "X_val")
    scale, missing = parameters["scale"], parameters["missing"]
    earlier_shape = None if earlier is None else earlier.input.shape
    classes = None if earlier is None else earlier.classes
    target = ClassTarget(classes, parameters["class_weight"])
    refuse_sensors(X)
    per_window = {"y": y, "sample_weight": sample_weight, "groups": groups}
    scaler: Scaler | None = None
    is_file = isinstance(X, str | os.PathLike)
    if isinstance(X, SETS):
        X, scaler = _open_training(X, scale, per_window)
    if isinstance(X_val, SETS):
        X_val = open_windows(X_val, scale, "X_val")
    source = X if isinstance(X, WindowSet) else None
    source_val = X_val if isinstance(X_val, WindowSet) else None
    y = source.y if y is None and source is not None else y
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    windows = windows_of(X, lengths, known=earlier_shape, missing=missing)
    check_channels_have_numbers(windows, "X")
    if earlier is None and not windows.is_flat:
        check_axis_order(X, lengths)
    n_windows = len(windows)
    stored = None if source is None else source.split
    groups = _read_groups(source, groups, n_windows)
    weight = check_sample_weight(sample_weight, n_windows)
    takes_part = np.ones(n_windows, bool) if weight is None else weight > 0
    if stored is not None:
        takes_part &= stored != "test"
    class_index = target.learn(y, n_windows, takes_part)
    if earlier is None:
        check_unlabeled(target.learned[class_index], "y", labels_way_out=is_file)
    rows = np.flatnonzero(takes_part)
    starts = None if groups is None else _starts_of(source, groups, windows)
    shape, had_lengths = earlier_shape or _shape_of(windows, source), not windows.are_full
    # no recording_id, because the names of a million recordings take a lot of memory
    facts = {"weight": weight, "groups": groups, "starts": starts, "recording_id": None}
    windows = replace(windows, **facts, rows=np.arange(n_windows))
    if len(rows) < n_windows:
        windows = windows.take(rows)
        stored = None if stored is None else stored[rows]
    windows = replace(windows, target=class_index)
    if windows.is_flat and not had_lengths:
        refuse_rows(windows.X[:, :, 0], windows.target)
    of_val = {"y_val": y_val, "groups_val": groups_val, "lengths_val": lengths_val}
    separate = _read_validation(X_val, of_val, windows.groups, target, shape, missing)
    sources = source, source_val, scaler
    column_names = None if names is None else [str(name) for name in names]
    return FitData(
        windows, windows, target, separate, separate, stored, *sources, had_lengths, column_names
    )


def read_table(X: Any, name: str, **shape: Any) -> NDArray[Any]:
    """Check a table (n, t) as scikit-learn does."""
    options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False, **shape}
    try:
        return np.asarray(
            check_array(X, input_name=name, estimator="SensorLSTMClassifier", **options)
        )
    except ValueError as error:
        if str(error).startswith("setting an array element"):
            raise InputError(
                f"{name} has a sequence in each cell. Give a list of windows:"
                f" [pd.DataFrame(row.to_dict()) for _, row in {name}.iterrows()]."
            ) from error
        if not str(error).startswith("could not convert"):
            raise
        raise InputError(f"{name} does not consist of numbers ({error}).") from error


def _open_training(
    X: Any, scale: str | None, per_window: dict[str, Any]
) -> tuple[Any, Scaler | None]:
    scaler: Scaler | None = None
    if isinstance(X, str | os.PathLike):
        for name, value in per_window.items():
            if value is not None:
                raise InputError(f"the file {X} contains its own {name}; leave {name}=None.")
        X, scaler = read_training_file(X)
    if isinstance(X, WindowSet):
        refuse_scaled(X, scale)
        X = without_test(X)
    return X, scaler


def _read_groups(source: WindowSet | None, groups: Any, n_windows: int) -> NDArray[Any] | None:
    if source is not None:
        if source.split is not None and groups is not None:
            raise InputError(
                "X already has a split, which groups cannot change; leave groups=None, or split X"
                " by these groups."
            )
        if groups is None:
            groups = source.recording_id if source.groups is None else source.groups
    checked = check_groups("groups", groups, n_windows)
    if source is not None and source.split is not None:
        check_parts(source, checked)
    return checked


def _starts_of(
    source: WindowSet | None, groups: NDArray[Any], windows: Windows
) -> NDArray[np.float64]:
    """Return each window's start in window lengths or, if unknown, its position in its group."""
    starts = None if source is None else source.start_s
    if source is not None and starts is not None and source.sample_rate_hz is not None:
        length_s = windows.n_timesteps / source.sample_rate_hz
        in_windows: NDArray[np.float64] = starts / length_s
        return in_windows
    order = np.zeros(len(groups))
    for rows in rows_of(groups):
        order[rows] = np.arange(len(rows))
    return order


def _shape_of(windows: Windows, source: WindowSet | None) -> WindowShape:
    """Return the shape that all other windows must have."""
    channels = windows.channels
    if channels is None and source is not None:
        channels = list(source.channels)
    n_timesteps, n_channels = windows.X.shape[1:]
    return WindowShape(n_channels, n_timesteps if windows.is_flat else None, channels)


def _read_validation(
    X: Any,
    per_window: dict[str, Any],
    train_groups: NDArray[Any] | None,
    target: ClassTarget,
    shape: WindowShape,
    missing: str,
) -> Windows | None:
    if X is None:
        for name, value in per_window.items():
            if value is not None:
                raise InputError(f"{name} is given without X_val; give both or neither.")
        return None
    y, groups = per_window["y_val"], per_window["groups_val"]
    if isinstance(X, WindowSet):
        y = X.y if y is None else y
        groups = X.groups if groups is None else groups
    if y is None:
        raise InputError("X_val is given without y_val.")
    windows = windows_of(X, per_window["lengths_val"], "X_val", shape, missing=missing)
    check_channels_have_numbers(windows, "X_val")
    class_index = target.read(y, len(windows), "y_val", "X_val")
    groups = check_groups("groups_val", groups, len(windows), "X_val")
    if train_groups is not None and groups is not None:
        shared = np.intersect1d(train_groups, groups)
        if len(shared):
            raise InputError(
                f"group {shared.tolist()[0]!r} is in both groups and groups_val ({len(shared)}"
                " such groups); validation needs groups that are not in training."
            )
    return replace(windows, target=class_index, groups=groups, recording_id=None)


# 2. Hold out


def hold_out(arguments: FitArguments, data: FitData) -> FitData:
    """Return the data with its windows divided into a training and a validation part."""
    train_rows, held_out = _rows_of_parts(arguments, data)
    validation = data.given_validation if held_out is None else data.windows.take(held_out)
    if arguments.parameters["calibrate"] and validation is None:
        raise ArgumentError(
            "calibrate=True needs validation windows, but there are none. Set"
            " validation_fraction=0.2, give X_val, or set calibrate=False."
        )
    train = data.windows if train_rows is None else data.windows.take(train_rows)
    return replace(data, train=train, validation=validation)


def _rows_of_parts(
    arguments: FitArguments, data: FitData
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return the indices of the training windows (None means all) and validation windows."""
    windows, stored, config = data.windows, data.split, arguments.config
    fraction = arguments.parameters["validation_fraction"]
    if data.given_validation is not None:
        if stored is not None and (stored == "validation").any():
            raise InputError(
                "X already has a validation part, so X_val cannot be given as well; omit X_val,"
                ' or give X.part("train") as X.'
            )
        return None, None
    if stored is not None:
        train, validation = (np.flatnonzero(stored == part) for part in ("train", "validation"))
        if not len(train):
            raise InputError("X has a split without a train part, so there is nothing to train on.")
    elif fraction == 0.0:
        return None, None
    else:
        seed = int(arguments.split_seed.generate_state(1)[0])
        train, validation = _draw_validation_rows(windows, fraction, seed)
    if len(validation):
        return train, validation
    if config.early_stopping and config.monitor.startswith("val_"):
        _refuse_early_stopping(len(windows.target), stored is not None, fraction, config)
    return train, None


def _draw_validation_rows(
    windows: Windows, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the indices of training and validation windows, stratified by class.

    Whole groups are held out. If no group can be held out, or only groups of one class, the end of
    each group is held out instead.
    """
    groups, starts, target = windows.groups, windows.starts, windows.target
    n_classes = len(np.unique(target))
    refused: SplitError | None = None
    rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    try:
        rows = holdout_by_group(target, groups, fraction, seed)
    except SplitError as error:
        refused = error
    if rows is not None and len(np.unique(target[rows[1]])) >= min(2, n_classes):
        return rows
    if groups is None or starts is None:
        assert rows is not None
        return rows
    train, held_out = folds_in_time(target, groups, starts, max(2, round(1 / fraction)))[-1]
    if not len(held_out) or len(np.unique(target[train])) < n_classes:
        if rows is not None:
            return rows
        raise SplitError(
            "too few groups can be held out for validation without removing a class from"
            " training, and the groups are too short to hold out their ends. Record more groups,"
            " give X_val, or set validation_fraction=0."
        ) from refused
    warn_caller(
        "too few groups can be held out for validation without removing a class from training,"
        " so the end of each group is held out. The validation accuracy and features_ then refer to"
        " later times of the same groups, so expect lower accuracy on other recordings.",
        LeakWarning,
    )
    return train, held_out


def _refuse_early_stopping(
    n_windows: int, has_split: bool, fraction: float, config: TrainingConfig
) -> None:
    remedies = "give X_val, or set early_stopping=False."
    if has_split:
        raise ArgumentError(
            f"monitor={config.monitor!r} needs validation windows, but the split of X has none,"
            f" only {n_windows} training windows (validation_fraction is not used with a"
            f" split). Split X into train and validation, {remedies}"
        )
    raise ArgumentError(
        f"monitor={config.monitor!r} needs validation windows, but none of the {n_windows}"
        f" windows of X can be held out (validation_fraction={fraction:g}) because no class has"
        f" a second window. Record more windows, {remedies}"
    )


def find_shared_samples(data: FitData) -> tuple[Finding, ...]:
    """Find samples shared by training and validation windows, and warn about them."""
    train, validation = data.train, data.validation
    if validation is None or train.are_stored or validation.are_stored:
        return ()
    results = [check_overlap(train, validation)]
    if data.is_drawn and data.windows.groups is None:
        results.append(check_continuity(data.windows))
    findings = tuple(finding for finding in results if finding is not None)
    for finding in findings:
        warn_caller(str(finding), LeakWarning)
    return findings


# 3. Scale


def scale_windows(arguments: FitArguments, data: FitData) -> ScaledFit:
    """Learn the scaling from the training part, and return the scaled inputs of the networks."""
    earlier, parameters = arguments.earlier, arguments.parameters
    kept = {name: parameters[name] for name in PREDICTION_ARGUMENTS}
    model = _new_model(data, kept) if earlier is None else _continued(earlier, data, kept)
    findings = find_shared_samples(data)
    form = WindowFormat.of(model, parameters["augment"])
    if earlier is None:  # otherwise keep the scaling with which the weights were learned
        form = replace(form, scaler=fit_scaling(form, data, parameters["scale"]))
    ranges = learn_ranges(data, earlier)
    samples: Any = make_data(data.train, form, data.target, training=True)
    if earlier is None:
        form = replace(form, patch=choose_patch(arguments, samples))
    patch = form.patch
    train = samples if patch is None else samples.patched(patch)
    shown, validation = None, None
    if data.validation is not None:
        shown = make_data(data.validation, form, data.target, training=False)
        validation = shown if patch is None else shown.patched(patch)
    findings += check_class_shares(data.train, data.validation, model.classes.tolist())
    if earlier is None:
        warn_of_label_channels(data.windows, data.train, model.channels)
    model = model.with_input(scaler=form.scaler, ranges=ranges).with_lstm(patch=patch)
    return ScaledFit(data, model, form, train, validation, (samples, shown), findings)


def _new_model(data: FitData, arguments: Mapping[str, Any]) -> TrainedModel:
    """Return a model that has learned only the classes and the shape of the windows."""
    windows = data.windows
    n_timesteps, n_channels = windows.X.shape[1:]
    of_sensor = Input(
        n_channels,
        flat_timesteps=n_timesteps if windows.is_flat else None,
        feature_names=data.column_names if windows.is_flat else windows.channels,
        n_timesteps=n_timesteps,
        had_lengths=data.had_lengths,
        preparation=data.preparation(None, continues=False),
        **arguments,
    )
    members = Sum.of_lstm(LstmMember(), len(data.target.learned))
    return TrainedModel(data.target.learned, {UNNAMED: of_sensor}, members)


def _continued(earlier: TrainedModel, data: FitData, arguments: Mapping[str, Any]) -> TrainedModel:
    """Return the model of an earlier fit, prepared for training on new windows."""
    continued = earlier.with_input(
        had_lengths=earlier.input.had_lengths or data.had_lengths,
        preparation=data.preparation(earlier.preparation, continues=True),
        **arguments,
    )
    # the threshold was chosen for other probabilities
    return replace(continued, temperature=1.0, shares=None, abstention=None)


def fit_scaling(form: WindowFormat, data: FitData, scale: str | None) -> Scaler | None:
    """Learn the scaling from the training part only, so that no other part leaks into it."""
    # The scaler of a prepared file was fitted on its uncropped training windows, before balancing.
    is_valid = form.max_timesteps is None or scale == PHYSICAL
    if data.scaler is not None and data.scaler.kind == scale and is_valid:
        return data.scaler
    warn_of_another_scale(data.source, scale)
    return form.fit_scaler(data.train, data.source, scale)


def learn_ranges(data: FitData, earlier: TrainedModel | None) -> TrainedRanges | None:
    """Learn the ranges of all windows of a fit, or widen the ranges of the earlier fit."""
    ranges = None if earlier is None else earlier.input.ranges
    if earlier is not None and ranges is None:
        return None
    for windows in (data.windows, data.given_validation):
        if windows is None:
            continue
        pieces = None
        if windows.are_stored:  # read a sample in pieces that are spread over the file
            rows = np.linspace(0, len(windows) - 1, min(len(windows), _MOST_STORED)).astype(
                np.int64
            )
            n_pieces = len(windows.row_pieces(rows))
            pieces = [rows[piece::n_pieces] for piece in range(n_pieces)]
        for piece in windows.pieces(pieces):
            learn = TrainedRanges.learn if ranges is None else ranges.widened
            ranges = learn(piece.X, piece.lengths)
    return ranges


def choose_patch(arguments: FitArguments, samples: TrainingData | StreamedData) -> Patch | None:
    """Return the patch that joins several samples into a step; None if each sample is a step."""
    patch, config = arguments.parameters["patch"], arguments.config
    if config.crop == "random" and config.max_timesteps is not None:
        if patch not in (None, AUTO, 1):
            raise ArgumentError(
                f"patch={patch!r} cannot be combined with crop='random', which begins a window at"
                " any sample; set patch=None, or another crop."
            )
        return None
    chosen = make_patch(patch, samples.nothing().X.shape[1])
    if chosen is None:
        return None
    blocks = [samples] if isinstance(samples, TrainingData) else samples.blocks()
    return fit_patch(chosen, ((block.X, block.lengths) for block in blocks))


def check_refit(features: Any, refit: Any, warm_start: bool) -> None:
    """Raise an ArgumentError unless the classifier accepts `features` and `refit`."""
    learners_of(features)
    if refit is not None and refit not in REFITS:
        raise ArgumentError(f"refit={refit!r} is not 'auto', 'all' or None.")
    if refit == "all" and warm_start:
        raise ArgumentError(
            "refit='all' starts again from initial weights, but warm_start=True continues from"
            " trained ones; use refit=None."
        )
