"""Save a classifier as a model file or a pickle, write checkpoints, and import networks."""

import importlib
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from sensorseq.errors import (
    ArgumentError,
    ModelFileError,
    OutputError,
    check_choice,
    refusing,
    warn_caller,
    writing,
)
from sensorseq.estimator.adapt import Adaptation
from sensorseq.history import History
from sensorseq.io.atomic import locking
from sensorseq.io.model_file import SAVE_AGAIN, TakeField, read_model, take_field, write_model
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.checked_windows import DTYPES
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.members.choice import LSTM, FeatureChoice
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.model import TrainedModel, read_trained
from sensorseq.prediction.network import check_array_names
from sensorseq.preprocessing.configuration import check_recorded
from sensorseq.preprocessing.windowing.augment import Augmentation
from sensorseq.sensor_windows import UNNAMED
from sensorseq.training import EngineChoice
from sensorseq.training.callbacks import Callback
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import ModuleNetwork, modules_of
from sensorseq.training.parameters import check_device, check_plain
from sensorseq.training.torch_network import ARCHITECTURE, network_arrays, read_network

Loaded = TypeVar("Loaded")
Contents = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""The arrays and the description of a model file."""


def model_contents(
    model: TrainedModel,
    parameters: Mapping[str, Any],
    histories: Sequence[History],
    *,
    best_epoch: int,
    best_score: float,
    engine: EngineChoice,
    facts: Mapping[str, Any],
    features: FeatureChoice,
    refitted: bool = False,
    adaptation: Adaptation | None = None,
) -> Contents:
    """Return the contents of a model file, without the report, which takes a long time to make.

    `facts` are the facts from which the report is made.
    """
    modules = modules_of(model)
    # the model's arguments, because those of the estimator may have been changed since the fit
    arguments = plain_arguments({**parameters, **model.input.arguments})
    return network_arrays(modules) | model.arrays(), {
        "parameters": arguments,
        **model.description(),
        "features": features.to_dict(),
        "adaptation": None if adaptation is None else dict(vars(adaptation)),
        **architecture_of(modules[0]),
        "history": histories[0].to_rows(),
        "other_histories": [history.to_rows() for history in histories[1:]],
        "best_epoch": best_epoch,
        "best_score": best_score,
        "engine": list(engine),
        "report_facts": {name: fact for name, fact in facts.items() if name != "data_facts"},
        "refitted": refitted,
        "versions": {
            "sensorseq": importlib.import_module("sensorseq").__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def plain_arguments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's arguments as a model file stores them; raise an error if it cannot."""
    arguments = dict(parameters)
    if isinstance(arguments["augment"], Augmentation):
        arguments["augment"] = arguments["augment"].to_dict()
    if isinstance(arguments["checkpoint"], os.PathLike):
        arguments["checkpoint"] = os.fspath(arguments["checkpoint"])
    check_plain(arguments)
    return arguments


def known_arguments(stored: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Return the known arguments of an estimator from a model file; warn if there are others.

    Only `fit` needs the arguments.
    """
    others = [f"{name}={value!r}" for name, value in stored.items() if name not in known]
    if others:
        warn_caller(
            f"the model was trained with {', '.join(others)}, which this version does not have; the"
            " model predicts as before, but fit will not use it."
        )
    return {name: value for name, value in stored.items() if name in known}


def architecture_of(module: LSTMLinear) -> dict[str, Any]:
    """Return the architecture and the dtype of a network, for a model file."""
    return {
        "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
    }


class Checkpoint(Callback):
    """Writes the network to a model file after each epoch that improves `monitor`.

    If the history has no column `monitor` because nothing is held out, the network is written after
    every epoch. The file contains the LSTM alone, with everything that prediction needs, and is
    replaced atomically. If the file cannot be written during training, for example because the disk
    is full, a single warning is issued, and the training continues.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        model: TrainedModel,
        job: TrainingJob,
        facts: Mapping[str, Any],
    ) -> None:
        path = parameters["checkpoint"]
        with writing(path), locking(path):  # raises an error now if the file cannot be written
            pass
        self._path, self._monitor, self._best = path, job.config.monitor, math.inf
        self._has_warned, self._engine = False, job.choose_engine()
        self._parameters, self._facts = {**parameters, "callbacks": None}, facts
        # without the features of an earlier fit
        self._model = replace(model, sum=Sum.of_lstm(model.lstm, len(model.classes)))
        check_plain(self._parameters)

    def on_epoch_end(self, module: nn.Module, history: History) -> None:
        """Write the network if no earlier epoch was as good."""
        score = float(history[-1].get(self._monitor, math.nan))
        if self._monitor in history[-1]:
            value = score if self._monitor.endswith("loss") else -score
            if not value < self._best:  # also true for a loss that is not finite
                return
            self._best = value
        assert isinstance(module, LSTMLinear)
        network = ModuleNetwork(module, self._parameters["device"])
        arrays, description = model_contents(
            self._model.with_lstm(networks=[network]),
            self._parameters,
            [history],
            best_epoch=len(history),
            best_score=score,
            engine=self._engine,
            facts=self._facts,
            features=FeatureChoice(reason="from a checkpoint"),
        )
        try:
            write_model(self._path, arrays, description)
        except OutputError as problem:
            if not self._has_warned:
                warn_caller(f"checkpoint {problem} Training continues.")
            self._has_warned = True


def load_file(
    path: str | os.PathLike[str],
    device: str | None,
    restored: Mapping[bool, Callable[..., Loaded]],
) -> Loaded:
    """Return the estimator made from a file by `restored`, whose keys are True for many sensors."""
    if device is not None:
        check_device(device)
    arrays, description = read_model(path)
    is_fused = "fusion" in description
    with refusing(ModelFileError, f"{path} is inconsistent", SAVE_AGAIN, but=ModelFileError):
        if is_fused not in restored:
            kind = "several sensors; use SensorFusion" if is_fused else "one sensor; use SensorLSTM"
            raise ModelFileError(f"{path} is a model of {kind}Classifier.load.")
        return restored[is_fused](arrays, description, path, device)


def read_fitted(
    arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], path: Any, device: str
) -> TrainedModel:
    """Return the model in a file, with its networks as torch modules."""
    take = partial(take_field, description, path=path)
    n_networks = 1 + len(take("other_histories", list))
    check_array_names(arrays, n_networks, path)
    return restore(arrays, take, n_networks, device)


def restore(
    arrays: Mapping[str, NDArray[Any]], take: TakeField, n_networks: int, device: str
) -> TrainedModel:
    """Build the model from these arrays and fields, with its networks as torch modules."""
    model = read_trained(arrays, take)
    if model.preparation is not None:
        check_recorded(model.preparation["configuration"] or {})
    architecture, dtype = take("architecture", dict), take("dtype", str)
    networks = [
        ModuleNetwork(
            read_network(
                arrays,
                architecture,
                n_channels=model.lstm.n_inputs(model.n_channels),
                n_classes=len(model.classes),
                dtype=check_choice("dtype", dtype, DTYPES),
                member=member,
            ),
            device,
        )
        for member in range(n_networks)
    ]
    return model.with_lstm(networks=networks)


# Pickles contain plain values, but neither GPU tensors nor types of this package.


def packed(model: TrainedModel) -> dict[str, Any]:
    """Return a model as plain values, except for features that are functions."""
    modules, whole, custom = modules_of(model), model, None
    if not model.sum.is_plain:
        whole = replace(model, sum=Sum.of_lstm(model.lstm, len(model.classes)))
        custom = model.sum.with_member(LSTM, LstmMember())
    # copied, because the arrays may share memory with tensors that a warm start changes in place
    arrays = {name: array.copy() for name, array in network_arrays(modules).items()}
    return {
        "arrays": arrays | whole.arrays(),
        "description": {
            **whole.description(),
            "parameters": model.input.arguments,
            **architecture_of(modules[0]),
        },
        "n_networks": len(modules),
        "device": getattr(model.lstm.networks[0], "device", "auto"),
        "custom": custom,
    }


def unpacked(values: Mapping[str, Any]) -> TrainedModel:
    """Return the model from values made by `packed`."""
    take = partial(take_field, values["description"], path="the pickle")
    model = restore(values["arrays"], take, values["n_networks"], values["device"])
    if values["custom"] is None:
        return model
    return replace(model, sum=values["custom"].with_member(LSTM, model.lstm))


# Networks of other libraries


def imported(
    module: LSTMLinear, arguments: Mapping[str, Any], classes: ArrayLike | None
) -> tuple[dict[str, Any], TrainedModel]:
    """Return the arguments of an estimator, and a model that predicts with an imported network."""
    for name in (*ARCHITECTURE, "dtype", "scale"):
        if arguments.get(name) is not None:
            reason = (
                "there are no data to fit it on" if name == "scale" else "the network determines it"
            )
            raise ArgumentError(f"{name}={arguments[name]!r} cannot be set here: {reason}.")
    if module.linear.weight.dtype not in (torch.float32, torch.float64):
        module = module.float()
    description = architecture_of(module)
    of_network = {**description["architecture"], "dtype": description["dtype"]}
    split_single_logit(module)
    labels = np.arange(module.num_classes) if classes is None else np.asarray(classes)
    if labels.shape != (module.num_classes,) or len(np.unique(labels)) != len(labels):
        raise ArgumentError(
            f"classes={classes!r}, but the network has {module.num_classes} outputs; give one"
            " distinct label per output, in the order of the outputs."
        )
    # The outputs are reordered with the labels, because classes are sorted.
    order = np.argsort(labels)
    reorder_outputs(module, order)
    networks = [ModuleNetwork(module.eval(), arguments.get("device", "auto"))]
    of_sensor = Input(
        module.input_size,
        max_timesteps=arguments.get("max_timesteps"),
        crop=arguments.get("crop", "head"),
        dtype=of_network["dtype"],
        missing=arguments.get("missing", "error"),
    )
    members = Sum.of_lstm(LstmMember(networks), len(labels))
    model = TrainedModel(labels[order], {UNNAMED: of_sensor}, members)
    return {**arguments, **of_network, "scale": None}, model


def split_single_logit(module: LSTMLinear) -> None:
    """Turn a single sigmoid logit x into the two logits 0 and x."""
    if module.num_classes != 1:
        return
    weight, bias = module.linear.weight.detach(), module.linear.bias.detach()
    wider = torch.nn.Linear(weight.shape[1], 2, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([torch.zeros_like(weight), weight]))
        wider.bias.copy_(torch.cat([torch.zeros_like(bias), bias]))
    module.linear, module.num_classes = wider, 2


def reorder_outputs(module: LSTMLinear, order: NDArray[np.int64]) -> None:
    """Permute outputs so that output i is the former output order[i]."""
    rows = torch.from_numpy(order)
    with torch.no_grad():
        module.linear.weight.copy_(module.linear.weight[rows].clone())
        module.linear.bias.copy_(module.linear.bias[rows].clone())
