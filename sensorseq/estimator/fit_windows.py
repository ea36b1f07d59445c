"""The first steps of a fit: check its arguments, read windows, hold some out, scale them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sensorseq.diagnosis.trials import PartWindows
from sensorseq.errors import ArgumentError, InputError, LeakWarning, warn_caller
from sensorseq.estimator.feature_head import check_features
from sensorseq.estimator.report import check_class_shares, warn_of_label_channels
from sensorseq.gpu_check.check import check_before_fit
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.overlap import check_continuity, check_overlap
from sensorseq.prediction.inputs import is_table
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import TrainedRanges
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.scale.scaler import PHYSICAL, Scaler
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.data import FitData, WindowFormat
from sensorseq.training.labels import draw_entropy
from sensorseq.training.parameters import check_device, check_parameters, resolve_device
from sensorseq.training.patches import AUTO, check_patch, fit_patch, make_patch
from sensorseq.training.preparation import warn_of_another_scale
from sensorseq.training.stream import StoredPart, StreamedData, is_stored
from sensorseq.training.targets import ClassTarget

REFITS = ("auto", "all")
_MOST_STORED = 4096  # most windows of a prepared file used to learn ranges


class Seeds(NamedTuple):
    """Independent random streams, so that an extra draw in one does not affect the others."""

    split: np.random.SeedSequence
    # Initial weights and training.
    members: list[tuple[np.random.SeedSequence, np.random.SeedSequence]]
    entropy: int


@dataclass(frozen=True)
class FitArguments:
    """The checked arguments of a fit; `earlier` is the model that it continues."""

    parameters: Mapping[str, Any]
    config: TrainingConfig
    device: torch.device
    seeds: Seeds
    earlier: TrainedModel | None = None


@dataclass(frozen=True)
class ScaledFit:
    """The windows of a fit, scaled, and the model so far, which has no networks.

    The windows of `train` and `validation` may be streamed. `findings` are about the windows.
    """

    data: FitData
    model: TrainedModel
    format: WindowFormat
    train: PartWindows
    validation: PartWindows | None
    findings: tuple[Finding, ...]


def check_arguments(
    parameters: Mapping[str, Any], earlier: TrainedModel | None = None, entropy: int | None = None
) -> FitArguments:
    """Check all arguments of an estimator before doing any work.

    `earlier` is continued; `entropy` is that of a fit to run again.
    """
    check_refit(parameters["features"], parameters["refit"], parameters["warm_start"])
    config = check_parameters(parameters)
    check_patch(parameters["patch"])
    n_models = parameters["n_models"]
    if entropy is None:
        entropy = draw_entropy(parameters["random_state"])
    # in this order, the first of several members has the seeds of a single one
    split, *streams = np.random.SeedSequence(entropy).spawn(1 + 2 * n_models)
    seeds = Seeds(split, list(zip(streams[::2], streams[1::2], strict=True)), entropy)
    if earlier is not None and len(earlier.networks) != n_models:
        raise ArgumentError(
            f"warm_start=True continues n_models={n_models} network(s), but the last fit kept"
            f" {len(earlier.networks)}; start over with fit and warm_start=False, or fit with"
            " refit='all' or refit=None, which keep n_models networks."
        )
    device, engine = parameters["device"], parameters["engine"]
    # the native engine only runs on the CPU, so "auto" follows it
    wanted = "cpu" if (device, engine) == ("auto", "native") else device
    if check_device(wanted) != "cpu":
        check_before_fit(wanted)
    dtype: torch.dtype = getattr(torch, parameters["dtype"])
    resolved = resolve_device(wanted, hidden_size=parameters["hidden_size"], dtype=dtype)
    return FitArguments(parameters, config, resolved, seeds, earlier)


def read_and_scale(arguments: FitArguments, X: Any, y: Any, **given: Any) -> ScaledFit:
    """Return the windows of a fit before training: read, held out and scaled."""
    data = hold_out(arguments, read_windows(arguments, X, y, **given))
    return scale_windows(arguments, data)


# 1. Read windows


def read_windows(arguments: FitArguments, X: Any, y: Any, **given: Any) -> FitData:
    """Read and check the windows and labels of `fit`, whose further arguments are `given`."""
    earlier, parameters, names = arguments.earlier, arguments.parameters, None
    if is_table(X):
        if earlier is None:
            named = BaseEstimator()
            validate_data(named, X, reset=True, skip_check_array=True)
            names = getattr(named, "feature_names_in_", None)
        X = read_table(X, "X")
    if is_table(given.get("X_val")):
        given = {**given, "X_val": read_table(given["X_val"], "X_val")}
    classes = None if earlier is None else earlier.classes
    data = FitData.read(
        X,
        y,
        target=ClassTarget(classes, parameters["class_weight"]),
        scale=parameters["scale"],
        missing=parameters["missing"],
        known=None if earlier is None else earlier.shape,
        **given,
    )
    return data if names is None else replace(data, column_names=[str(one) for one in names])


def read_table(X: Any, name: str, **shape: Any) -> NDArray[Any]:
    """Check a table (n, t) as scikit-learn does."""
    options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False, **shape}
    try:
        return np.asarray(
            check_array(X, input_name=name, estimator="SensorLSTMClassifier", **options)
        )
    except ValueError as error:
        if not str(error).startswith("could not convert"):
            raise
        raise InputError(f"{name} is not numbers ({error}).") from error


# 2. Hold out


def hold_out(arguments: FitArguments, data: FitData) -> FitData:
    """Return the windows in a training and a validation part."""
    fraction = arguments.parameters["validation_fraction"]
    data = data.hold_out(fraction, arguments.seeds.split, arguments.config)
    if arguments.parameters["calibrate"] and data.validation is None:
        raise ArgumentError(
            "calibrate=True needs validation windows, but there are none. Set"
            " validation_fraction=0.2, give X_val, or set calibrate=False."
        )
    return data


def find_shared_samples(data: FitData) -> tuple[Finding, ...]:
    """Find samples shared by training and validation windows, and warn about them."""
    if not data.is_drawn or data.validation is None:
        return ()
    findings = [check_overlap(data.train, data.validation)]
    if data.windows.groups is None:
        findings.append(check_continuity(data.windows.sequences))
    found = tuple(finding for finding in findings if finding is not None)
    for finding in found:
        warn_caller(str(finding), LeakWarning)
    return found


# 3. Scale


def scale_windows(arguments: FitArguments, data: FitData) -> ScaledFit:
    """Learn from the training part how windows become inputs of the networks; return these."""
    earlier, parameters = arguments.earlier, arguments.parameters
    model = _continued(earlier, data) if earlier is not None else _begun(parameters, data)
    found = find_shared_samples(data)
    form = WindowFormat.of(model, parameters["augment"])
    if earlier is None:  # otherwise keep the scaling with which the weights were learned
        form = replace(form, scaler=fit_scaling(form, data, parameters["scale"]))
    ranges = learn_ranges(data, earlier)
    samples: Any = form.tensors(data.train, data.target, training=True)
    if earlier is None:
        form = replace(form, patch=choose_patch(arguments, samples))
    patch = form.patch
    windows = samples if patch is None else samples.patched(patch)
    train, held_out = PartWindows(windows, data.train.groups, data.train.rows, samples), None
    if data.validation is not None:
        shown: Any = form.tensors(data.validation, data.target, training=False)
        steps = shown if patch is None else shown.patched(patch)
        held_out = PartWindows(steps, data.validation.groups, data.validation.rows, shown)
    found += check_class_shares(data, model.classes.tolist())
    if earlier is None:
        warn_of_label_channels(data, model.channels)
    model = replace(model, scaler=form.scaler, patch=patch, ranges=ranges)
    return ScaledFit(data, model, form, train, held_out, found)


def _begun(parameters: Mapping[str, Any], data: FitData) -> TrainedModel:
    """Return a model that has learned the shape of windows alone."""
    sequences = data.windows.sequences
    n_timesteps, n_channels = sequences.X.shape[1:]
    return TrainedModel(
        data.target.known,
        n_channels,
        networks=(),
        flat_timesteps=n_timesteps if sequences.is_flat else None,
        feature_names=data.column_names if sequences.is_flat else sequences.channels,
        n_timesteps=n_timesteps,
        had_lengths=data.had_lengths,
        max_timesteps=parameters["max_timesteps"],
        crop=parameters["crop"],
        dtype=parameters["dtype"],
        missing=parameters["missing"],
        preparation=data.preparation(None, continues=False),
    )


def _continued(earlier: TrainedModel, data: FitData) -> TrainedModel:
    """Return the model of an earlier fit that goes on with further windows."""
    return replace(
        earlier,
        had_lengths=earlier.had_lengths or data.had_lengths,
        preparation=data.preparation(earlier.preparation, continues=True),
        temperature=1.0,
        shares=None,
        abstention=None,  # it was chosen for other probabilities
    )


def fit_scaling(form: WindowFormat, data: FitData, scale: str | None) -> Scaler | None:
    """Learn the scaling from the training part only, so that nothing leaks into the score."""
    # The scaler of a prepared file was fitted on its training windows before balancing.
    as_learned = form.max_timesteps is None or scale == PHYSICAL
    if data.scaler is not None and data.scaler.kind == scale and as_learned:
        return data.scaler
    warn_of_another_scale(data.source, scale)
    return form.fit_scaler(data.train.sequences, data.source, scale)


def learn_ranges(data: FitData, earlier: TrainedModel | None) -> TrainedRanges | None:
    """Learn the ranges of all windows of a fit, or widen the earlier ones."""
    ranges = None if earlier is None else earlier.ranges
    if earlier is not None and ranges is None:
        return None
    for sequences in [part.sequences for part in (data.windows, data.given) if part]:
        parts = sequences.parts()
        if is_stored(sequences):
            parts = StoredPart(sequences).sampled(_MOST_STORED)
        for windows in parts:
            learn = TrainedRanges.learn if ranges is None else ranges.widened
            ranges = learn(windows.X, windows.lengths)
    return ranges


def choose_patch(arguments: FitArguments, samples: TrainingData | StreamedData) -> Patch | None:
    """Choose how many samples form one step of the network, and scale it; None for one."""
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
    check_features(features)
    if refit is not None and refit not in REFITS:
        raise ArgumentError(f"refit={refit!r} is not 'auto', 'all' or None.")
    if refit == "all" and warm_start:
        raise ArgumentError(
            "refit='all' starts again from first weights, which warm_start=True is there to avoid;"
            " use refit=None."
        )
