"""Initialization of the weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.training.randomness import single_thread

SCHEMES = ("xavier", "he", "orthogonal", "uniform")
WeightInit = str | Callable[[str, Tensor, torch.Generator], Any]


@torch.no_grad()
def initialise_weights(
    module: nn.Module,
    weight_init: WeightInit,
    recurrent_init: WeightInit,
    forget_bias: float,
    generator: torch.Generator,
) -> None:
    """Draw the weights of an `LSTMLinear` from `generator` alone.

    Each of the four gates is a separate matrix with its own fans: an orthogonal recurrent
    matrix keeps the norm of the state in every gate.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters are identified by name: ``weight_ih`` and ``linear.weight`` follow
        `weight_init`, ``weight_hh`` follows `recurrent_init`; ``bias_ih`` of the forget gate gets
        `forget_bias`; every other bias is zero; a norm keeps its ones and zeros.
    weight_init, recurrent_init : {"xavier", "he", "orthogonal", "uniform"} or callable
        Uniform Xavier [1]_; uniform He [2]_; orthogonal [3]_; ``"uniform"``: torch's own
        ``U(-b, b)`` with ``b = 1 / sqrt(H)`` in the LSTM and ``1 / sqrt(inputs)`` in the head. A
        callable gets ``(name, tensor, generator)`` for each whole tensor and fills it in place.
    forget_bias : float
        A positive value makes the cell remember at the start of training [4]_.
    generator : torch.Generator
        On the CPU.

    Raises
    ------
    ArgumentError
        If a scheme is unknown, or a callable produced values that are not finite.

    References
    ----------
    .. [1] X. Glorot, Y. Bengio, *Understanding the difficulty of training deep feedforward neural
       networks*, 2010.
    .. [2] K. He et al., *Delving Deep into Rectifiers*, 2015.
    .. [3] A. Saxe et al., *Exact solutions to the nonlinear dynamics of learning in deep linear
       neural networks*, 2013.
    .. [4] R. Jozefowicz et al., *An Empirical Exploration of Recurrent Network Architectures*,
       2015.
    """
    for name, tensor in module.named_parameters():
        if name.startswith("norm."):
            continue
        if "weight" in name:
            recurrent = "weight_hh" in name
            argument = "recurrent_init" if recurrent else "weight_init"
            _fill(argument, recurrent_init if recurrent else weight_init, name, tensor, generator)
        else:
            tensor.zero_()
            if "bias_ih" in name:
                hidden_size = len(tensor) // 4
                tensor[hidden_size : 2 * hidden_size] = forget_bias  # gates i, f, g, o


def check_scheme(argument: str, scheme: Any) -> None:
    """Raise unless `scheme` is a known name or a callable."""
    if not callable(scheme):
        check_choice(argument, scheme, SCHEMES)


def _fill(
    argument: str, scheme: WeightInit, name: str, tensor: Tensor, generator: torch.Generator
) -> None:
    check_scheme(argument, scheme)
    if callable(scheme):
        scheme(name, tensor, generator)
        if not tensor.isfinite().all():
            raise ArgumentError(f"{argument} produced values that are not finite in {name}.")
        return
    in_lstm = name.startswith("lstm.")
    bound = (len(tensor) // 4 if in_lstm else tensor.shape[1]) ** -0.5
    for gate in tensor.chunk(4) if in_lstm else (tensor,):
        if scheme == "xavier":
            nn.init.xavier_uniform_(gate, generator=generator)
        elif scheme == "he":
            nn.init.kaiming_uniform_(gate, a=0.0, generator=generator)
        elif scheme == "orthogonal":
            # LAPACK's bits depend on its threads, and the first weights must not
            with single_thread():
                nn.init.orthogonal_(gate, generator=generator)
        else:
            gate.uniform_(-bound, bound, generator=generator)
