"""Test cases for CUDA kernels: inputs, expected results, tolerances, and the process to run them.

`gpu_check` starts the process, ``python -m sensorseq.ops.kernel_cases``, and compares its results.
Both processes draw the same random numbers. For the letters in shapes, see
`sensorseq.ops.reference`. Only torch and numpy are needed.
"""

import functools
import json
import math
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.ops import reference
from sensorseq.ops.choice import MANY, MAX_CHANNELS, allowing_tf32, batches_of, kernel_precision
from sensorseq.ops.cuda_kernels import ALL_KERNELS, PORTABLE, Kernel
from sensorseq.ops.lstm_linear import pooled_size
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper, pack_batches

M, N, D, K = 2, 9, 2, 4
_STEPS = 12  # number of training steps, enough for some calls to use a CUDA graph
# Maximum relative L2 differences from float64. In emulation, the differences of correct kernels are
# ten times smaller than these limits; a wrong index or a lost message causes far larger ones.
_ALLOWED = {
    "fp32": {
        **{"output": 1e-5, "gradient": 1e-4, "training": 1e-3},
        **{"inference": 1e-5, "float16": 2e-3, "bfloat16": 1e-2},
    },
    "fp16x3": {"output": 1e-5, "gradient": 1e-4, "training": 1e-3},
    "fp16": {"output": 4e-3, "gradient": 1e-2, "training": 3e-2},
}

_INFERENCE = {"inference": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Values = dict[str, NDArray[Any]]


class Case(NamedTuple):
    """A kernel (its precision and size), and the length of the sequences that it runs on."""

    precision: str
    padded_hidden: int
    n_timesteps: int

    @property
    def kernel(self) -> Kernel:
        """The kernel that this case checks."""
        return self.precision, self.padded_hidden

    @property
    def name(self) -> str:
        """The name of the case, for example ``"fp16 H=61 T=5"``."""
        return f"{self.precision} H={self.hidden_size} T={self.n_timesteps}"

    @property
    def hidden_size(self) -> int:
        """The hidden size: the size of the kernel, or slightly less if sequences are short."""
        return self.padded_hidden - (3 if self.n_timesteps < 10 else 0)

    @property
    def is_portable(self) -> bool:
        """Whether the kernel is portable; then it also computes inference in half precision."""
        return self.precision == PORTABLE

    @property
    def n_channels(self) -> int:
        """The number of channels; portable kernels differ for at most 4, 8 and 16 channels."""
        return 3 if self.n_timesteps < 10 else 8 if self.n_timesteps < 50 else MAX_CHANNELS


def make_cases(
    n_timesteps: Sequence[int] = (5, 20, 70), kernels: Collection[Kernel] = ALL_KERNELS
) -> list[Case]:
    """Return the cases of some kernels, ordered by the number of timesteps, then by kernel size.

    Simple cases come first, so that a kernel that hangs affects as few other cases as possible.
    """
    ordered = sorted(kernels, key=lambda kernel: kernel[::-1])
    return [Case(*kernel, n_steps) for n_steps in n_timesteps for kernel in ordered]


def _pooling(case: Case) -> str:
    """Return the pooling; use a maximum only if rounding cannot change the step of the maximum."""
    return "meanmax" if case.precision != "fp16" and case.n_timesteps < 10 else "mean"


def _draw(case: Case) -> dict[str, Any]:
    """Draw weights at the scale of a new LSTM, windows of random lengths, and states.

    For portable kernels, all numbers are exact in bfloat16, so that the
    arguments are the same in every dtype.
    """
    draw = torch.Generator().manual_seed(0)
    T, C, H = case.n_timesteps, case.n_channels, case.hidden_size

    def exact(values: Tensor) -> Tensor:
        return values.bfloat16().float() if case.is_portable else values

    def normal(*shape: int) -> Tensor:
        return exact(torch.randn(shape, generator=draw))

    def weights(*shape: int) -> Tensor:
        return exact((2 * torch.rand(shape, generator=draw) - 1) / math.sqrt(H))

    lengths = torch.randint(0, T + 1, (N,), generator=draw)
    lengths[:2] = torch.tensor([T, 0])
    pooling = _pooling(case)
    return {
        "pooling": pooling,
        "lengths": lengths,
        "x": normal(1, N, T, C),
        "gates": normal(M, N, T, D * 4 * H),
        "weight_ih": weights(M, D, 4 * H, C),
        "weight_hh": weights(M, D, 4 * H, H),
        "bias": weights(M, D, 4 * H),
        "weight_out": weights(M, K, pooled_size(pooling, H, D)),
        "bias_out": weights(M, K),
        "h_0": exact(normal(M, N, D, H).tanh()),
        "c_0": normal(M, N, D, H),
        "mask": 2.0 * torch.randint(0, 2, (M, N, D, H), generator=draw),
        "of_logits": normal(M, N, K),
        "of_hidden": normal(M, N, T, D * H),
        "of_h_n": normal(M, N, D, H),
        "of_c_n": normal(M, N, D, H),
        "classes": torch.randint(0, K, (N,), generator=draw),
        "batches": [
            [torch.randperm(N, generator=draw)[:5].numpy() for _ in range(_STEPS)] for _ in range(M)
        ],
        "first": weights(M, _network(case).n_parameters),
    }


def _network(case: Case) -> NetworkLayout:
    return NetworkLayout(case.n_channels, case.hidden_size, K, bidirectional=True, pooling="mean")


def compute(case: Case, device: torch.device) -> Values:
    """Run `lstm_linear`, `lstm` and their backward passes, then training steps, on `device`.

    The portable kernels also run without a backward pass, in every precision.
    """
    drawn = _draw(case)
    precision = case.precision
    on = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in drawn.items()}
    states = on["h_0"], on["c_0"], on["mask"]
    layer = on["weight_ih"], on["weight_hh"], on["bias"]
    kernels = torch.ops.sensorseq
    _poison(device)
    logits, h_n, c_n, pooled, saved = kernels.lstm_linear(
        *(on["x"], on["lengths"], *layer, on["weight_out"], on["bias_out"], *states),
        *(on["pooling"], True, precision),
    )
    grads = kernels.lstm_linear_backward(
        *(on["of_logits"], on["of_h_n"], on["of_c_n"], on["x"], on["lengths"], *layer),
        *(on["weight_out"], *states, pooled, saved, on["pooling"], False, precision),
    )
    results = {"output logits": logits, "output h_n": h_n, "output c_n": c_n}
    names = ("weight_ih", "weight_hh", "bias", "weight_out", "bias_out", "h_0", "c_0")
    results |= {f"gradient {name}": grad for name, grad in zip(names, grads[1:], strict=True)}
    _poison(device)
    of_gates = on["gates"], on["lengths"], on["weight_ih"][..., :0].contiguous(), *layer[1:]
    hidden, _, _, saved = kernels.lstm(*of_gates, *states, True, precision)
    grads = kernels.lstm_backward(
        *(on["of_hidden"], None, None, *of_gates, *states, saved, True, precision)
    )
    results |= {"output hidden": hidden, "gradient gates": grads[0], "gradient recurrent": grads[2]}
    values = {name: value.cpu().numpy() for name, value in results.items()}
    if case.is_portable:
        for kind, dtype in _INFERENCE.items():
            for name, value in _forward(case, drawn, device, dtype).items():
                values[f"{kind} {name}"] = value.float().cpu().numpy()
    if not _trains(case):
        return values
    _poison(device)
    return values | _train(case, drawn, device, torch.float32)


def _forward(
    case: Case, drawn: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    on = {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in drawn.items()
        if isinstance(value, Tensor)
    }
    states = on["h_0"], on["c_0"], on["mask"]
    layer = on["weight_ih"], on["weight_hh"], on["bias"]
    _poison(device)
    logits, h_n, c_n, _, _ = torch.ops.sensorseq.lstm_linear(
        *(on["x"], on["lengths"], *layer, on["weight_out"], on["bias_out"], *states),
        *(drawn["pooling"], False, case.precision),
    )
    no_weights = on["weight_ih"][..., :0].contiguous()
    hidden, _, _, _ = torch.ops.sensorseq.lstm(
        *(on["gates"], on["lengths"], no_weights, *layer[1:], *states, False, case.precision)
    )
    return {"logits": logits, "h_n": h_n, "c_n": c_n, "hidden": hidden}


def _trains(case: Case) -> bool:
    """Test whether training steps, which are in float32, ever use this kernel."""
    if case.is_portable:
        return True
    allows_tf32 = case.precision == "fp16"
    return kernel_precision(torch.float32, case.hidden_size, allows_tf32) == case.precision


def expected(case: Case) -> Values:
    """Compute the same values in float64 on the CPU, with plain torch and the native engine."""
    if case.is_portable:
        values = _expected(case)
        outputs = [item for item in values.items() if item[0].startswith("output")]
        of_inference = {
            name.replace("output", kind): value for kind in _INFERENCE for name, value in outputs
        }
        return values | of_inference
    shared = case._replace(precision="fp16x3")  # both precisions share the cached result
    values = dict(_expected(shared if _pooling(shared) == _pooling(case) else case))
    if not _trains(case):
        values = {name: value for name, value in values.items() if "training" not in name}
    return values


@functools.lru_cache(maxsize=16)
def _expected(case: Case) -> Values:
    drawn = _draw(case)
    wide = {
        name: value.double().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in drawn.items()
    }
    states = wide["h_0"], wide["c_0"], wide["mask"].detach()
    layer = wide["weight_ih"], wide["weight_hh"], wide["bias"]
    head = wide["weight_out"], wide["bias_out"]
    logits, h_n, c_n = reference.lstm_linear(
        wide["x"], wide["lengths"], *layer, *head, *states, pooling=_pooling(case)
    )
    names = ("weight_ih", "weight_hh", "bias", "weight_out", "bias_out", "h_0", "c_0")
    grads = torch.autograd.grad(
        (logits, h_n, c_n),
        [wide[name] for name in names],
        [wide[name].detach() for name in ("of_logits", "of_h_n", "of_c_n")],
    )
    results = {"output logits": logits, "output h_n": h_n, "output c_n": c_n}
    results |= {f"gradient {name}": grad for name, grad in zip(names, grads, strict=True)}
    hidden, _, _ = reference.lstm(
        wide["gates"], wide["lengths"], wide["weight_ih"][..., :0], *layer[1:], *states
    )
    of_gates, of_recurrent = torch.autograd.grad(
        hidden, [wide["gates"], wide["weight_hh"]], wide["of_hidden"].detach()
    )
    results |= {
        "output hidden": hidden,
        "gradient gates": of_gates,
        "gradient recurrent": of_recurrent,
    }
    values = {name: value.detach().numpy() for name, value in results.items()}
    if not _trains(case):
        return values
    return values | _train(case, drawn, torch.device("cpu"), torch.float64)


def _train(
    case: Case, drawn: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> dict[str, NDArray[Any]]:
    first = drawn["first"].to(device, dtype)
    trainer = EpochTrainer(
        _network(case),
        first,
        drawn["x"][0].to(device, dtype),
        drawn["classes"],
        make_hyper(M, momentum=0.9, dropout=0.2, recurrent_dropout=0.2, max_grad_norm=1.0),
        lengths=drawn["lengths"],
        optimizer="sgd",
        seeds=range(M),
    )
    # so many windows that the tensor-core kernels train, or so few that the portable kernels do
    with batches_of(1 if case.is_portable else MANY):
        statistics = trainer.run(*pack_batches(drawn["batches"]), 0.02)
    moved = trainer.parameters - first
    return {"training steps": moved.cpu().numpy(), "training loss": statistics["loss"].numpy()}


def _poison(device: torch.device) -> None:
    """Fill free memory with NaN, so that missing writes of a kernel are noticed."""
    tensors = [torch.full((2**n,), torch.nan, device=device) for n in range(6, 22)]
    del tensors


def compare_results(case: Case, results: Values, exact: Values) -> tuple[bool, str]:
    """Return whether all results are within their tolerances, and describe the worst result."""
    if results.keys() != exact.keys():
        return False, "not all results were computed"
    worst, share = "", -1.0
    for name, exact_value in exact.items():
        value = results[name]
        if value.shape != exact_value.shape:
            return False, f"{name} has shape {value.shape} instead of {exact_value.shape}"
        error = float(np.linalg.norm(value - exact_value) / np.linalg.norm(exact_value))
        allowed = _ALLOWED[case.precision][name.split()[0]]
        own_share = error / allowed if math.isfinite(error) else math.inf
        if own_share > share:
            worst, share = f"{name} is off by {error:.0e}, allowed {allowed:.0e}", own_share
    return share <= 1.0, worst


def main() -> int:
    """Run the cases of a job, which is a line of JSON on stdin; return the exit code.

    The job contains the cases, the number of runs of each case, a folder and a device. For each
    case, a line of JSON is printed at the start and at the end, and the results are written into
    the folder. After a case that raises an error, no further case is run, because later results
    cannot be trusted.
    """
    job = json.loads(sys.stdin.readline())
    device, folder = torch.device(job["device"]), Path(job["folder"])
    torch.zeros(1, device=device)
    _print_json(ready=True)
    for number, case in enumerate(Case(*fields) for fields in job["cases"]):
        _print_json(begin=number)
        started = time.monotonic()
        try:
            with allowing_tf32(case.precision == "fp16"):
                values = compute(case, device)
                same = all(
                    _are_equal(values, compute(case, device)) for _ in range(job["runs"] - 1)
                )
        except RuntimeError as error:
            _print_json(error=" ".join(str(error).split())[:500])
            return 1
        file = folder / f"{number}.npz"
        np.savez(file, **dict[str, Any](values))
        _print_json(done=number, file=str(file), same=same, seconds=time.monotonic() - started)
    return 0


def _are_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def _print_json(**fields: Any) -> None:
    # Start a new line, because a library may have written to the current line.
    print(f"\n{json.dumps(fields)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
