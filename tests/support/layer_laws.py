"""Checks of the layer's guarantees on any device; each check takes the device as an argument.

The tests in tests/gpu call these checks on the GPU if there is one, and always on the CPU, so that
the checks themselves are tested everywhere. Only public names are used.
"""

import contextlib
import functools
import itertools
import random
import warnings
from dataclasses import dataclass, fields

import torch
from budget import assert_within_budget, relative_error
from torch import nn

from sensorseq import ops
from sensorseq.ops import reference

FACTORS = {
    "hidden_size": (1, 5, 32, 50, 64, 100, 128, 223, 256, 512),
    "n_channels": (1, 3, 16, 17),
    "n_directions": (1, 2),
    "n_models": (1, 3),
    "pooling": ops.POOLINGS,
    "lengths": (None, "mixed", "zero"),
    "states": (False, True),
    "mask": (False, True),
    "n_windows": (1, 8, 21),  # a tile of the kernels is 8 rows
    "n_timesteps": (1, 2, 19),
}
# here, float32 means IEEE, and tf32 means float32 with TF32 allowed in torch
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True)
class Variant:
    """One combination of values of all factors."""

    hidden_size: int = 32
    n_channels: int = 3
    n_directions: int = 1
    n_models: int = 1
    pooling: str = "last"
    lengths: str | None = None
    states: bool = False
    mask: bool = False
    n_windows: int = 21
    n_timesteps: int = 19

    def __str__(self):
        flags = [name for name in ("states", "mask") if getattr(self, name)]
        return (
            f"H{self.hidden_size}-C{self.n_channels}-D{self.n_directions}-M{self.n_models}"
            f"-{self.pooling}-{self.lengths or 'full'}-N{self.n_windows}-T{self.n_timesteps}"
            + "".join(f"-{flag}" for flag in flags)
        )


def pairs_of(variant):
    """Return all pairs of values of two factors in a variant."""
    values = [(field.name, getattr(variant, field.name)) for field in fields(variant)]
    return set(itertools.combinations(values, 2))


def covering_variants():
    """Return a few variants that together contain every pair of values of two factors."""
    draw = random.Random(0)
    missing = {
        pair
        for (a, of_a), (b, of_b) in itertools.combinations(FACTORS.items(), 2)
        for pair in itertools.product(((a, v) for v in of_a), ((b, v) for v in of_b))
    }
    chosen = []
    while missing:
        (a, value_a), (b, value_b) = min(missing, key=repr)
        drawn = ({name: draw.choice(values) for name, values in FACTORS.items()} for _ in range(30))
        candidates = [Variant(**each | {a: value_a, b: value_b}) for each in drawn]
        best = max(candidates, key=lambda variant: len(pairs_of(variant) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen


VARIANTS = covering_variants()


@contextlib.contextmanager
def torch_precision(precision):
    """Set torch's precision of float32 in RNNs and matrix products; restore it afterwards."""
    places = [torch.backends.cudnn.rnn, torch.backends.cuda.matmul]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def dtype_of(precision):
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


class Problem:
    """Random arguments for a variant, in float64 on the CPU; each run casts and moves them.

    Numbers are rounded to `given`, so that the inputs are exact in every precision. All precisions
    represent bfloat16 values exactly. TF32 therefore does not round these inputs, although it would
    round most users' inputs.
    """

    def __init__(self, variant, seed=0, n_classes=3, scale=0.4, given=torch.bfloat16):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator).to(given).double()

        v = self.variant = variant
        M, N, T, C = v.n_models, v.n_windows, v.n_timesteps, v.n_channels
        H, D = v.hidden_size, v.n_directions
        width = ops.pooled_size(v.pooling, H, D)
        rounded = {
            "x": draw(1 if seed % 2 else M, N, T, C),
            "weight_ih": draw(M, D, 4 * H, C) * scale / C**0.5,
            "weight_hh": draw(M, D, 4 * H, H) * scale / H**0.5,
            "bias": draw(M, D, 4 * H) * scale,
            "weight_out": draw(M, n_classes, width) / width**0.5,
            "bias_out": draw(M, n_classes),
        }
        if v.states:
            rounded |= {"h_0": draw(M, N, D, H) * 0.5, "c_0": draw(M, N, D, H)}
        self.leaves = {name: value.to(given).double() for name, value in rounded.items()}
        self.mask = (draw(M, N, D, H) > -0.5).double() * 1.5 if v.mask else None
        self.lengths = {
            None: None,
            "zero": torch.zeros(N, dtype=torch.int64),
            "mixed": torch.randint(0, T + 1, (N,), generator=generator),
        }[v.lengths]
        self.grad_logits = draw(M, N, n_classes)
        self.grad_states = [draw(M, N, D, H), draw(M, N, D, H)]
        self.grad_hidden = draw(M, N, T, D * H)

    def arguments(self, device, dtype, grad=True):
        """Return the leaves, lengths and mask on a device.

        With several models, x needs no gradient, so that a GPU's kernels multiply x by the weights.
        If x needed a gradient, torch would multiply x, and would sum batched products in a
        different order.
        """
        values = {
            name: value.to(device, dtype, copy=True).requires_grad_(
                grad and (name != "x" or self.variant.n_models == 1)
            )
            for name, value in self.leaves.items()
        }
        values["lengths"] = None if self.lengths is None else self.lengths.to(device)
        values["recurrent_mask"] = None if self.mask is None else self.mask.to(device, dtype)
        return values

    def run(self, function, device, dtype, head=True, **changes):
        """Return, by name, the outputs and all leaves' gradients of an implementation of an op."""
        arguments = {**self.arguments(device, dtype), **changes}
        grads = [self.grad_logits if head else self.grad_hidden, *self.grad_states]
        if head:
            arguments["pooling"] = self.variant.pooling
        else:
            arguments = {k: v for k, v in arguments.items() if not k.endswith("_out")}
        outputs = function(**arguments)
        grads = [g.to(o.device, o.dtype) for g, o in zip(grads, outputs, strict=True)]
        torch.autograd.backward(list(outputs), grads)
        names = ("logits" if head else "hidden", "h_n", "c_n")
        results = {name: o.detach() for name, o in zip(names, outputs, strict=True)}
        for name in self.leaves:
            leaf = arguments.get(name)
            if leaf is not None and leaf.requires_grad:
                results[f"grad_{name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return results


def framework_lstm(x, weight_ih, weight_hh, bias, *, lengths, recurrent_mask, h_0=None, c_0=None):
    """Compute ops.lstm with torch.nn.LSTM, model by model, or with the reference if masked."""
    if recurrent_mask is not None:
        return reference.lstm(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
    n_models, n_directions, _, hidden_size = weight_hh.shape
    n_windows, n_timesteps = x.shape[1:3]
    layers = []
    for model in range(n_models):
        of_x = x[model if len(x) > 1 else 0]
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        parts = {}
        for direction, suffix in enumerate(("", "_reverse")[:n_directions]):
            values = [w[model, direction] for w in (weight_ih, weight_hh, bias)]
            for name, value in zip(names, (*values, torch.zeros_like(values[2])), strict=True):
                parts[f"{name}_l0{suffix}"] = value
        kind = {"bidirectional": n_directions == 2, "device": x.device, "dtype": x.dtype}
        layer = nn.LSTM(x.shape[3], hidden_size, batch_first=True, **kind)
        zeros = x.new_zeros(n_directions, n_windows, hidden_size)
        first = [zeros if s is None else s[model].transpose(0, 1).contiguous() for s in (h_0, c_0)]
        packed = of_x
        if lengths is not None:
            # torch packs no empty row, so an empty row gets one step, whose results are not used
            some_steps = lengths.clamp(min=1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(of_x, some_steps, True, enforce_sorted=False)
        with warnings.catch_warnings():
            # cuDNN warns that the weights are not in one chunk of memory
            warnings.filterwarnings("ignore", "RNN module weights are not part of")
            hidden, last = torch.func.functional_call(layer, parts, (packed, tuple(first)))
        if lengths is not None:
            hidden, _ = nn.utils.rnn.pad_packed_sequence(hidden, True, total_length=n_timesteps)
            some = (lengths > 0)[:, None]
            hidden = torch.where(some[..., None], hidden, hidden.new_zeros(()))
            last = [torch.where(some, s, f) for s, f in zip(last, first, strict=True)]
        layers.append([hidden, *(s.transpose(0, 1) for s in last)])
    return tuple(torch.stack(parts) for parts in zip(*layers, strict=True))


def rounded_to_tf32(x):
    """Round to the 11 significant bits of TF32; derivatives pass through."""
    if not x.is_floating_point():
        return x
    mantissa, exponent = torch.frexp(x.detach())
    rounded = torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent)
    return x + (rounded - x).detach()


class _ProductsInTf32(torch.overrides.TorchFunctionMode):
    """Round both factors of every matrix product, as a GPU with TF32 does."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__):
            args = tuple(map(rounded_to_tf32, args))
        return function(*args, **(kwargs or {}))


def tf32_lstm(**arguments):
    """Compute ops.lstm in float64 with TF32 products, as torch's kernels do for some sizes."""
    with _ProductsInTf32():
        return reference.lstm(**arguments)


def tf32_lstm_linear(**arguments):
    """Compute ops.lstm_linear in float64 with TF32 products in the layer, not in the head."""
    head = {name: arguments.pop(name) for name in ("weight_out", "bias_out", "pooling")}
    hidden, h_n, c_n = tf32_lstm(**arguments)
    pooled = reference.pool(hidden, h_n, arguments["lengths"], head["pooling"])
    return pooled @ head["weight_out"].mT + head["bias_out"][:, None], h_n, c_n


def framework_lstm_linear(*, weight_out, bias_out, pooling, lengths, **arguments):
    """Compute ops.lstm_linear with torch.nn.LSTM, pooling and a matrix product."""
    hidden, h_n, c_n = framework_lstm(lengths=lengths, **arguments)
    pooled = reference.pool(hidden, h_n, lengths, pooling)
    return pooled @ weight_out.mT + bias_out[:, None], h_n, c_n


@functools.lru_cache(maxsize=4)
def exact_runs(variant, head, given):
    """Return problems of a variant and their float64 results; small variants get more problems."""
    values = variant.n_windows * variant.n_models * variant.n_directions * variant.hidden_size
    n_seeds = max(2, min(16, 4096 // values))
    problems = [Problem(variant, seed, given=given) for seed in range(n_seeds)]
    function = reference.lstm_linear if head else reference.lstm
    return [(problem, problem.run(function, "cpu", torch.float64, head)) for problem in problems]


def check_error(device, variant, precision, head=True):
    """Check that our error against float64 is at most twice the framework's error.

    In TF32, the limit is twice the framework's error or twice the error of TF32 products, whichever
    is larger. The reason is that torch's kernels round to TF32 only for some sizes. Outputs and
    gradients are checked over all seeds together, because the relative error of a single number can
    have any size. tests/support/budget.py defines the comparison.
    """
    ours, theirs = (ops.lstm_linear, framework_lstm_linear) if head else (ops.lstm, framework_lstm)
    runs, dtype = [], dtype_of(precision)
    rounded_to = torch.float32 if dtype == torch.float32 else torch.bfloat16
    with torch_precision(precision):
        for problem, exact in exact_runs(variant, head, rounded_to):
            results = [problem.run(side, device, dtype, head) for side in (ours, theirs)]
            if precision == "tf32":
                in_tf32 = tf32_lstm_linear if head else tf32_lstm
                rounded = problem.run(in_tf32, "cpu", torch.float64, head)
                results[1] = {
                    key: max(
                        rounded[key],
                        value.cpu(),
                        key=lambda v, of=exact[key]: relative_error(v, of),
                    )
                    for key, value in results[1].items()
                }
            assert results[0].keys() == results[1].keys() == exact.keys()
            for key, value in results[0].items():
                assert value.device.type == torch.device(device).type, key
                assert value.dtype == dtype, key
                assert value.shape == exact[key].shape, key
            runs.append((*results, exact))
    for key in runs[0][0]:
        by_side = zip(*runs, strict=True)
        sides = [torch.cat([result[key].cpu().flatten() for result in side]) for side in by_side]
        assert_within_budget([tuple(sides)], dtype, key)


def assert_same_bits(computed, wanted, where=""):
    """Compare two dicts or sequences of tensors bit for bit; a NaN is always an error."""
    names = computed.keys() if isinstance(computed, dict) else range(len(computed))
    assert len(computed) == len(wanted)
    for name in names:
        a, b = computed[name], wanted[name]
        assert not a.isnan().any(), f"{name} {where}"
        assert torch.equal(a, b), f"{name} {where}: {(a != b).sum()} of {a.numel()} differ"


def infer(problem, device, dtype, rows=slice(None), models=slice(None), **changes):
    """Compute ops.lstm_linear on some rows and models, without gradients."""
    arguments = problem.arguments(device, dtype, grad=False)
    for name in ("h_0", "c_0", "recurrent_mask"):
        if arguments.get(name) is not None:
            arguments[name] = arguments[name][models, rows]
    for name in ("weight_ih", "weight_hh", "bias", "weight_out", "bias_out"):
        arguments[name] = arguments[name][models]
    x = arguments["x"]
    arguments["x"] = x[:, rows] if len(x) == 1 else x[models, rows]
    arguments["lengths"] = None if arguments["lengths"] is None else arguments["lengths"][rows]
    with torch.no_grad():
        return ops.lstm_linear(**{**arguments, "pooling": problem.variant.pooling, **changes})


def check_same_bits_twice(device, variant, precision):
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        first, second = (problem.run(ops.lstm_linear, device, dtype) for _ in range(2))
    assert_same_bits(first, second)


def check_batch_invariance(device, variant, precision):
    """Check that a row has the same bits alone, in part of the batch and in the complete batch."""
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        whole = infer(problem, device, dtype)
        for rows in (slice(0, 1), slice(3, 4), slice(5, 14), slice(9, None)):
            part = infer(problem, device, dtype, rows=rows)
            assert_same_bits(part, [w[:, rows] for w in whole], f"rows {rows}")


def check_model_invariance(device, variant, precision):
    """Check that a model has the same bits alone and together with others."""
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        whole = infer(problem, device, dtype)
        for model in range(variant.n_models):
            models = slice(model, model + 1)
            alone = infer(problem, device, dtype, models=models)
            assert_same_bits(alone, [w[models] for w in whole], f"model {model}")


def check_chunks(device, variant, precision):
    """Check that a sequence has the same bits in one call as in chunks that pass the state on."""
    assert variant.pooling == "last"
    assert variant.n_directions == 1
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        x = problem.arguments(device, dtype, grad=False)["x"]
        whole = infer(problem, device, dtype)
        for cuts in ([1], [variant.n_timesteps // 2], [2, 3, 11]):
            state, outputs = {}, None
            for chunk in torch.tensor_split(x, cuts, dim=2):
                outputs = infer(problem, device, dtype, x=chunk, **state)
                state = {"h_0": outputs[1], "c_0": outputs[2]}
            assert_same_bits(outputs, whole, f"cut at {cuts}")


def check_beyond_lengths(device, variant, precision):
    """Check that NaN beyond the lengths changes no bit of the outputs and gradients."""
    assert variant.lengths == "mixed"
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        clean = problem.run(ops.lstm_linear, device, dtype)
        for row, length in enumerate(problem.lengths.tolist()):
            problem.leaves["x"][:, row, length:] = torch.nan
        assert problem.leaves["x"].isnan().any()
        assert_same_bits(problem.run(ops.lstm_linear, device, dtype), clean)


def check_not_contiguous(device, variant, precision):
    """Check that transposed, sliced and expanded arguments give the same bits as dense ones."""
    with torch_precision(precision):
        problem, dtype = Problem(variant), dtype_of(precision)
        dense = infer(problem, device, dtype)
        arguments = problem.arguments(device, dtype, grad=False)

        def transposed(tensor):
            return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)

        def sliced(tensor):
            return torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)[..., 0]

        x = arguments["x"]
        for name, value in (
            ("transposed", {k: transposed(arguments[k]) for k in ("x", "weight_hh", "weight_out")}),
            ("sliced", {k: sliced(arguments[k]) for k in ("x", "weight_ih", "bias", "bias_out")}),
            ("time first", {"x": x.transpose(1, 2).contiguous().transpose(1, 2)}),
            ("off alignment", {"x": torch.cat([x.reshape(-1)[:1], x.reshape(-1)])[1:].view_as(x)}),
        ):
            assert_same_bits(infer(problem, device, dtype, **value), dense, name)
