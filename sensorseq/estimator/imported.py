"""An estimator around a network from elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.training import EngineChoice
from sensorseq.training.network import ARCHITECTURE

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
