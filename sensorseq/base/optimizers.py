"""The table of optimizers, used by the settings, both engines and the report.

To add an optimizer, add an entry to this table and a class for autograd to training/optim.py. For
the native engine, add its name to csrc/lstm/train_epoch.h and its update rule to
csrc/lstm/update-inl.h.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class OptimizerFacts(NamedTuple):
    """Facts about an optimizer.

    Attributes
    ----------
    state : mapping of str to str, or None
        Names of the rows of the optimizer's state, in order. Each name is mapped to the
        hyper-parameter that must be nonzero for the row to exist; "" if the row always exists. None
        if the native engine does not know the optimizer.
    options : tuple of str
        Keys of `optimizer_params`.
    usual_rate : float
        The usual learning rate for an LSTM; for sgd, with a momentum of 0.9.
    defaults : mapping
        Values of `options` that differ from torch's defaults.
    """

    state: Mapping[str, str] | None
    options: tuple[str, ...]
    usual_rate: float
    defaults: Mapping[str, Any] = MappingProxyType({})


_ADAM = OptimizerFacts(
    {"exp_avg": "", "exp_avg_sq": "", "max_exp_avg_sq": "amsgrad"},
    ("betas", "eps", "amsgrad"),
    3e-3,
)
OPTIMIZERS = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "rmsprop": OptimizerFacts(
        {"square_avg": "", "momentum_buffer": "momentum", "grad_avg": "centered"},
        ("alpha", "eps", "momentum", "centered"),
        1e-3,
    ),
    "sgd": OptimizerFacts(
        {"momentum_buffer": "momentum"},
        ("momentum", "dampening", "nesterov"),
        0.1,
        {"momentum": 0.9},
    ),
}
NATIVE_STATES = {name: of.state for name, of in OPTIMIZERS.items() if of.state is not None}
"""The `state` of the optimizers that the native engine knows."""
