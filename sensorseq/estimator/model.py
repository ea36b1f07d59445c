"""A fitted estimator from and to a file or a pickle, and around a network from elsewhere."""

import copy
import importlib
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError, ModelFileError, check_choice
from sensorseq.estimator.adapt import Adaptation
from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.history import History
from sensorseq.inspection.outside import TrainedRanges
from sensorseq.io.model_file import take_field
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.windows.augment import Augmentation
from sensorseq.training import EngineChoice
from sensorseq.training.config import CLASSIFICATION, DTYPES
from sensorseq.training.network import (
    ARCHITECTURE,
    check_array_names,
    network_arrays,
    read_network,
    read_scaler,
)
from sensorseq.training.out_of_distribution import OutOfDistribution
from sensorseq.training.parameters import check_parameters, check_plain
from sensorseq.training.patches import read_patch
from sensorseq.training.preparation import check_preparation
from sensorseq.training.probabilities import Abstention


def describe_fit(estimator: Any) -> dict[str, Any]:
    """Return everything but the arrays."""
    head = None if estimator._head is None else estimator._head.description()
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["augment"], Augmentation):
        parameters["augment"] = parameters["augment"].to_dict()
    if isinstance(parameters["checkpoint"], os.PathLike):
        parameters["checkpoint"] = os.fspath(parameters["checkpoint"])
    check_plain(parameters)
    module = estimator.module_
    return {
        "task": estimator._task,
        "parameters": parameters,
        **estimator._describe_targets(),
        "n_channels": estimator._n_channels,
        "patch": None if estimator.patch_ is None else list(estimator.patch_),
        "n_features_in": estimator.n_features_in_,
        "flat_timesteps": estimator._flat_timesteps,
        "n_timesteps": estimator._n_timesteps,
        "feature_names_in": (
            estimator.feature_names_in_.tolist()
            if hasattr(estimator, "feature_names_in_")
            else None
        ),
        "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
        "history": estimator.history_.to_rows(),
        "other_histories": [history.to_rows() for history in estimator.histories_[1:]],
        "best_epoch": estimator.best_epoch_,
        "best_score": estimator.best_score_,
        "engine": list(estimator.engine_),
        "report_facts": {
            name: fact for name, fact in estimator._report_facts.items() if name != "data_facts"
        },
        "fluctuation": estimator.fluctuation_.to_dict(),
        "preparation": estimator.preparation_,
        "refitted": getattr(estimator, "refitted_", False),
        "features": head,
        "versions": {
            "sensorseq": importlib.import_module("sensorseq").__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def restore_fit(
    cls: Any,
    arrays: Mapping[str, NDArray[Any]],
    description: Mapping[str, Any],
    path: Any,
    device: str | None,
) -> Any:
    """Rebuild what `describe_fit` described, of class `cls`."""

    def take(name: str, kind: Any) -> Any:
        return take_field(description, name, kind, path)

    others = take("other_histories", list)
    take("versions", dict)  # only messages use them
    check_array_names(arrays, 1 + len(others), path)
    task = take("task", str)
    if task != cls._task:
        raise ModelFileError(
            f"{path} holds a model for {task}, which {cls.__name__} cannot load; load it with"
            f" {'SensorLSTMClassifier' if task == CLASSIFICATION else 'SensorLSTMRegressor'}."
        )
    head = take("features", dict | None)
    estimator = cls(**take("parameters", dict))
    check_parameters(estimator.get_params(deep=False), task)
    if device is not None:
        estimator.device = device
    estimator._restore_targets(take)
    estimator.n_features_in_ = take("n_features_in", int)
    estimator._flat_timesteps = take("flat_timesteps", int | None)
    estimator._n_timesteps = take("n_timesteps", int | None)
    names = take("feature_names_in", list | None)
    if names is not None:
        estimator.feature_names_in_ = np.array(_texts("feature_names_in", names), dtype=object)
    estimator.scaler_ = read_scaler(arrays)
    estimator.history_ = History(take("history", list))
    estimator.n_iter_ = len(estimator.history_)
    estimator.best_epoch_ = take("best_epoch", int)
    estimator.best_score_ = take("best_score", float)
    estimator.engine_ = EngineChoice(*_texts("engine", take("engine", list)))
    estimator._report_facts = take("report_facts", dict)
    estimator.preparation_ = check_preparation(take("preparation", dict | None))
    estimator._make_report()  # also of a file that brings it: it checks what it is made of
    if "fluctuation" in description:
        try:
            stored = take("fluctuation", dict)
            estimator.fluctuation_ = FluctuationReport._from_dict(stored, is_page=False)
        except ArgumentError as error:
            raise ModelFileError(f"{path}: {error}") from error
    estimator.patch_ = read_patch(take("patch", list | None))
    _restore_networks(estimator, arrays, take, n_models=1 + len(others))
    estimator._other_histories = [History(rows) for rows in others]
    estimator.refitted_ = take("refitted", bool)
    estimator.features_ = FeatureChoice(reason="loaded from a file without features")
    if head is not None:
        estimator._head = FeatureHead.restore(head, arrays)
        estimator._head.check(estimator._n_channels, estimator._target.n_outputs)
        estimator.features_ = estimator._head.choice
    if task == CLASSIFICATION:
        estimator._known = OutOfDistribution.restore(arrays, estimator._target.n_outputs)
    estimator._ranges = TrainedRanges.restore(arrays, estimator._n_channels)
    return estimator


def _restore_networks(
    estimator: Any, arrays: Mapping[str, NDArray[Any]], take: Any, *, n_models: int
) -> None:
    n_channels = take("n_channels", int)
    flat = estimator._flat_timesteps
    if (n_channels, estimator.n_features_in_) != (1 if flat else n_channels, flat or n_channels):
        raise ValueError(
            f"n_features_in={estimator.n_features_in_} with n_channels={n_channels} and"
            f" flat_timesteps={flat}"
        )
    patch = estimator.patch_
    estimator.module_, *estimator._other_modules = (
        read_network(
            arrays,
            take("architecture", dict),
            n_channels=n_channels if patch is None else patch.n_inputs(n_channels),
            n_classes=estimator._target.n_outputs,
            dtype=check_choice("dtype", take("dtype", str), DTYPES),
            member=member,
        )
        for member in range(n_models)
    )


def _texts(name: str, values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}, expected text")
    return values


_PLAIN = "plain_"  # what is packed bears this before its name


def pack_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a fitted estimator with what this package defines as plain values."""
    packed: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, torch.nn.Module) and type(value) is not LSTMLinear:
            packed[name] = copy.deepcopy(value).cpu()
        elif name not in _FORMS or value is None or (name == "_head" and not value.is_plain):
            packed[name] = value
        else:
            packed[_PLAIN + name] = _FORMS[name][0](value)
    return packed


def unpack_state(packed: dict[str, Any]) -> dict[str, Any]:
    """Undo `pack_state`; a state that was never packed stays as it is."""
    state = {}
    for key, value in packed.items():
        name = key.removeprefix(_PLAIN)
        state[name] = _FORMS[name][1](value) if key.startswith(_PLAIN) else value
    return state


def _describe_network(module: LSTMLinear) -> dict[str, Any]:
    return {
        "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
        "n_channels": module.input_size,
        "n_outputs": module.num_classes,
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
        # copies: an array of a tensor would be changed by a warm start in place
        "arrays": {name: array.copy() for name, array in network_arrays([module], None).items()},
    }


def _make_network(description: dict[str, Any]) -> LSTMLinear:
    return read_network(
        description["arrays"],
        description["architecture"],
        n_channels=description["n_channels"],
        n_classes=description["n_outputs"],
        dtype=description["dtype"],
    )


_FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # to plain values and back
    "module_": (_describe_network, _make_network),
    "_other_modules": (
        lambda modules: [_describe_network(module) for module in modules],
        lambda networks: [_make_network(network) for network in networks],
    ),
    "history_": (History.to_rows, History),
    "_other_histories": (
        lambda histories: [history.to_rows() for history in histories],
        lambda histories: [History(rows) for rows in histories],
    ),
    "scaler_": (
        lambda scaler: dict(scaler.to_dict()),
        lambda parts: read_scaler({f"scaler.{name}": part for name, part in parts.items()}),
    ),
    "patch_": (list, read_patch),
    "engine_": (list, lambda fields: EngineChoice(*fields)),
    "abstention_": (list, lambda fields: Abstention(*fields)),
    "adaptation_": (lambda adaptation: dict(vars(adaptation)), lambda stored: Adaptation(**stored)),
    "fluctuation_": (FluctuationReport.to_dict, FluctuationReport.from_dict),
    "features_": (FeatureChoice.to_dict, FeatureChoice.from_dict),
    "_head": (
        lambda head: {"description": head.description(), "arrays": head.arrays()},
        lambda stored: FeatureHead.restore(stored["description"], stored["arrays"]),
    ),
    "_known": (OutOfDistribution.arrays, lambda arrays: OutOfDistribution.restore(arrays, None)),
    "_ranges": (TrainedRanges.arrays, TrainedRanges.restore),
}


_OF_THE_NETWORK = (*ARCHITECTURE, "dtype")


def import_network(
    cls: Any,
    module: LSTMLinear,
    activation: str,
    arguments: Mapping[str, Any],
    classes: Any,
    source: str,
) -> Any:
    """Return an estimator of class `cls` that predicts with `module`, from a named source."""
    for name in (*_OF_THE_NETWORK, "scale"):
        if arguments.get(name) is not None:
            why = (
                "there is no data to fit it on" if name == "scale" else "the network determines it"
            )
            raise ArgumentError(f"{name}={arguments[name]!r} cannot be set here: {why}.")
    if module.linear.weight.dtype not in (torch.float32, torch.float64):
        module = module.float()
    own = {name: getattr(module, name) for name in ARCHITECTURE}
    own["dtype"] = str(module.linear.weight.dtype).removeprefix("torch.")
    estimator = cls(**{**arguments, **own, "scale": None})
    estimator._import_targets(module, activation, classes)
    estimator.n_features_in_ = module.input_size
    estimator._flat_timesteps = None
    estimator.scaler_ = None
    estimator.preparation_ = None
    estimator.history_ = History()
    estimator.n_iter_ = estimator.best_epoch_ = 0
    estimator.best_score_ = float("nan")
    estimator.engine_ = EngineChoice("none", f"the weights were taken from {source}")
    estimator._report_facts = {"n_val": None, "n_train": None}
    estimator.module_ = module.eval()
    estimator._make_report()
    return estimator


def split_single_logit(module: LSTMLinear) -> None:
    """Give a network with a single logit x, of a sigmoid, the logits 0 and x."""
    if module.num_classes != 1:
        return
    weight, bias = module.linear.weight.detach(), module.linear.bias.detach()
    wider = torch.nn.Linear(weight.shape[1], 2, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([torch.zeros_like(weight), weight]))
        wider.bias.copy_(torch.cat([torch.zeros_like(bias), bias]))
    module.linear, module.num_classes = wider, 2


def reorder_outputs(module: LSTMLinear, order: NDArray[np.int64]) -> None:
    """Let output i be what output order[i] was."""
    rows = torch.from_numpy(order)
    with torch.no_grad():
        module.linear.weight.copy_(module.linear.weight[rows].clone())
        module.linear.bias.copy_(module.linear.bias[rows].clone())
