"""Make the torch module of a fit: new, continued, or rebuilt from the arrays of a model file."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.io.model_file import arrays_below
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.network import array_prefix
from sensorseq.training.randomness import integer_seed, isolated_torch_rng, single_thread

ARCHITECTURE = (
    "hidden_size",
    "num_layers",
    "bidirectional",
    "pooling",
    "dropout",
    "recurrent_dropout",
    "head_norm",
)
SCHEMES = ("xavier", "he", "orthogonal", "uniform")
WeightInit = str | Callable[[str, Tensor, torch.Generator], Any]


@torch.no_grad()
def initialize_weights(
    module: nn.Module,
    weight_init: WeightInit,
    recurrent_init: WeightInit,
    forget_bias: float,
    generator: torch.Generator,
) -> None:
    """Initialize the weights of an `LSTMLinear` with random numbers from `generator`, on the CPU.

    `weight_init` applies to ``weight_ih`` and ``linear.weight``, and `recurrent_init` applies to
    ``weight_hh``. The schemes are uniform Xavier [1]_, uniform He [2]_, orthogonal [3]_, and
    ``"uniform"``, which is torch's default ``U(-b, b)`` with ``b = 1 / sqrt(H)`` in the LSTM and
    ``b = 1 / sqrt(inputs)`` in the head. Each of the four gates is initialized as a separate matrix
    with its own fans, so an orthogonal recurrent matrix preserves the norm of the state in every
    gate. A callable fills each complete tensor in place. A positive `forget_bias` makes the cell
    remember at the start of training [4]_; other biases are zero.

    .. [1] X. Glorot, Y. Bengio, *Understanding the difficulty of training deep ... networks*, 2010.
    .. [2] K. He et al., *Delving Deep into Rectifiers*, 2015.
    .. [3] A. Saxe et al., *Exact solutions to the nonlinear dynamics of learning in deep linear
       neural networks*, 2013.
    .. [4] R. Jozefowicz et al., *An Empirical Exploration of Recurrent Networks*, 2015.
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
                # Gates are in the order i, f, g, o.
                tensor[hidden_size : 2 * hidden_size] = float(forget_bias)


def check_scheme(argument: str, scheme: Any) -> None:
    """Raise an error unless `scheme` is a known name or a callable."""
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
            # LAPACK's results depend on the number of threads, but initial weights must not.
            with single_thread():
                nn.init.orthogonal_(gate, generator=generator)
        else:
            gate.uniform_(-bound, bound, generator=generator)


_FIXED = ("hidden_size", "num_layers", "bidirectional", "pooling", "head_norm")


def make_network(
    parameters: Mapping[str, Any], n_channels: int, n_classes: int, seed: np.random.SeedSequence
) -> LSTMLinear:
    """Make a network for the estimator's arguments, with initial weights from `seed`."""
    architecture = {name: parameters[name] for name in ARCHITECTURE}
    module = _new_module(n_channels, n_classes, parameters["dtype"], architecture)
    generator = torch.Generator().manual_seed(integer_seed(seed))
    initialize_weights(
        module,
        parameters["weight_init"],
        parameters["recurrent_init"],
        parameters["forget_bias"],
        generator,
    )
    return module


def _new_module(
    n_channels: int, n_classes: int, dtype: str, architecture: Mapping[str, Any], **options: Any
) -> LSTMLinear:
    # The initial values drawn here are overwritten.
    with isolated_torch_rng(0, torch.device("cpu")):
        options["dtype"] = getattr(torch, dtype)
        return LSTMLinear(n_channels, num_classes=n_classes, **options, **architecture)


def continue_network(module: LSTMLinear, parameters: Mapping[str, Any]) -> LSTMLinear:
    """Return a copy of a trained network; raise an error if the architecture is different."""
    for name in _FIXED:
        if getattr(module, name) != parameters[name]:
            raise ArgumentError(
                f"{name}={parameters[name]!r}, but warm_start=True continues with a network that"
                f" has {name}={getattr(module, name)!r}; use warm_start=False."
            )
    module = copy.deepcopy(module)
    module.dropout, module.recurrent_dropout = (
        parameters["dropout"],
        parameters["recurrent_dropout"],
    )
    return module.to(getattr(torch, parameters["dtype"]))


def network_arrays(modules: Sequence[LSTMLinear]) -> dict[str, NDArray[Any]]:
    """Return a dict of the weights, with their names in a model file as keys."""
    return {
        f"{array_prefix(member)}{name}": tensor.detach().cpu().numpy()
        for member, module in enumerate(modules)
        for name, tensor in module.state_dict().items()
    }


def read_network(
    arrays: Mapping[str, NDArray[Any]],
    architecture: Mapping[str, Any],
    *,
    n_channels: int,
    n_classes: int,
    dtype: str,
    member: int = 0,
) -> LSTMLinear:
    """Rebuild a network in evaluation mode from the output of `network_arrays`.

    A `ValueError` or `RuntimeError` is raised if the names, shapes or types of the arrays do not
    match the architecture. Memory is allocated only for the arrays, even if the architecture states
    larger sizes.
    """
    weights = {
        name: torch.tensor(array)
        for name, array in arrays_below(arrays, array_prefix(member)).items()
    }
    n_directions = 2 if architecture.get("bidirectional") is True else 1
    n_layers = sum(name.startswith("lstm.weight_ih_") for name in weights) / n_directions
    if architecture.get("num_layers") != n_layers:
        raise ValueError(
            f"num_layers={architecture.get('num_layers')!r}, but there are arrays for {n_layers:g}"
            " layers"
        )
    # The meta device allocates no memory.
    module = _new_module(n_channels, n_classes, dtype, architecture, device="meta")
    for name, tensor in module.state_dict().items():
        if name in weights and weights[name].dtype != tensor.dtype:
            raise ValueError(f"{name} has type {weights[name].dtype}; expected {tensor.dtype}")
    module.load_state_dict(weights, assign=True)  # strict, so names and shapes must match
    return module.eval()
