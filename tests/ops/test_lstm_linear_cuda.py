"""The Python code around the CUDA kernels, run with CPU kernels that keep the same contract.

The stand-ins accept only the arguments that csrc/lstm/lstm_linear_cuda.h describes, compute with
the reference, and overwrite the saved state as the kernels do.
"""

import concurrent.futures
import importlib
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from sensorseq import ops
from sensorseq.nn import LSTM, LSTMLinear
from sensorseq.ops import reference
from sensorseq.ops.choice import choose
from sensorseq.ops.cuda_kernels import ALL_KERNELS

# not imported from ops, which has a function of the same name
wrapper = importlib.import_module("sensorseq.ops.lstm_linear")
FRESH = 1.0


class StandIns:
    """The four ops on the CPU, with the behavior of a GPU; `calls` records each call."""

    def __init__(self, is_portable):
        self.calls = []
        # the precision in which float32 and half precision are computed
        self.single, self.half = ("fp32", "fp32") if is_portable else ("fp16x3", "fp16")

    def check(self, tensors, precision):
        x, _, weight_ih, weight_hh = tensors[:4]
        for tensor in tensors:
            assert tensor is None or tensor.is_contiguous()
            assert tensor is None or tensor.dtype in (torch.float32, torch.int64)
        M, D, n_gates, _ = weight_hh.shape
        is_projected = weight_ih.shape[3] == 0
        assert is_projected or x.shape[3] <= 16
        assert not is_projected or x.shape == (M, *x.shape[1:3], D * n_gates)
        if precision == "fp32":
            return is_projected, (M, D, x.shape[1], x.shape[2] * 8 + 1, 32)
        return is_projected, (M, D, -(-x.shape[1] // 8), x.shape[2] * 12 + 2, 4 * 64)

    def forward(self, function, tensors, options, save_state, precision):
        is_projected, shape = self.check(tensors, precision)
        name = function.__name__
        self.calls.append((name, "projected" if is_projected else "own", precision))
        saved = torch.full(shape if save_state else (0,), FRESH)
        return *function(*tensors, *options), saved

    def lstm(self, *arguments):
        *tensors, save_state, precision = arguments
        return self.forward(reference.lstm, tensors, (), save_state, precision)

    def lstm_linear(self, *arguments):
        *tensors, pooling, save_state, precision = arguments
        how = (pooling,), save_state, precision
        logits, h_n, c_n, saved = self.forward(reference.lstm_linear, tensors, *how)
        width = tensors[5].shape[2]
        return logits, h_n, c_n, logits.new_zeros((*logits.shape[:2], width)), saved

    def backward(self, function, tensors, options, grads, saved, needs_grad_x, precision):
        is_projected, shape = self.check([*tensors, *grads], precision)
        self.calls.append((f"{function.__name__}_backward", needs_grad_x, precision))
        assert saved.shape == shape
        assert (saved == FRESH).all()
        assert is_projected or not needs_grad_x, "the kernels have no gradient of x itself"
        # autograd is off in this thread because the dispatcher called us, but it is on in a new
        # thread
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            leaves, by_leaf = pool.submit(_gradients, function, tensors, options, grads).result()
        results = []
        for index, leaf in enumerate(leaves):
            grad = by_leaf.get(id(leaf))
            if index == 0 and not needs_grad_x:
                grad = torch.empty(0)
            # torch computes the gradients of weight_ih and bias
            elif is_projected and index in (2, 4):
                grad = torch.full_like(leaf, torch.nan)
            elif leaf is not None and grad is None:
                grad = torch.zeros_like(leaf)
            results.append(torch.empty(0) if leaf is None else grad)
        del results[1]  # lengths have no gradient
        return tuple(results[:-1])  # the mask has no gradient

    def lstm_backward(self, *arguments):
        *tensors, saved, needs_grad_x, precision = arguments
        of_call = (), tensors[:3], saved, needs_grad_x, precision
        return self.backward(reference.lstm, tensors[3:], *of_call)

    def lstm_linear_backward(self, *arguments):
        *tensors, _, saved, pooling, needs_grad_x, precision = arguments
        grads, inputs = tensors[:3], tensors[3:]
        w_out = inputs[5]
        # bias_out, which the kernel does not need
        inputs.insert(6, w_out.new_zeros(w_out.shape[:2]))
        of_call = (pooling,), grads, saved, needs_grad_x, precision
        return self.backward(reference.lstm_linear, inputs, *of_call)


def _gradients(function, tensors, options, grads):
    is_real = [t is not None and t.is_floating_point() for t in tensors]
    pairs = zip(tensors, is_real, strict=True)
    leaves = [t.detach().requires_grad_() if real else t for t, real in pairs]
    outputs = function(*leaves, *options)
    used_outputs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    of, weights = map(list, zip(*used_outputs, strict=True))
    wanted = [t for t in leaves if t is not None and t.is_floating_point()]
    gradients = torch.autograd.grad(of, wanted, weights, allow_unused=True)
    return leaves, {id(t): g for t, g in zip(wanted, gradients, strict=True)}


@pytest.fixture(params=["portable", "tensor-core"])
def kernels(monkeypatch, request):
    stand_ins = StandIns(request.param == "portable")
    verified = {kernel for kernel in ALL_KERNELS if kernel[0] in (stand_ins.single, stand_ins.half)}
    hopper = {"capability": (9, 0), "is_built": True, "verified": verified}

    def choose_here(device, dtype, **of_call):
        assert device.type == "cpu"
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else dtype
        return choose("cuda", dtype, **hopper, **of_call)

    for module in ("sensorseq.ops.lstm_linear", "sensorseq.nn.lstm"):
        monkeypatch.setattr(importlib.import_module(module), "choose_here", choose_here)
    with torch.library._scoped_library("sensorseq", "IMPL") as library:
        for name in ("lstm", "lstm_backward", "lstm_linear", "lstm_linear_backward"):
            function = _with_default(name, getattr(stand_ins, name))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="(?s).*Overriding a previously")
                library.impl(name, function, "CPU", allow_override=True)
        yield stand_ins


def _with_default(name, function):
    """Add a last argument, which torch omits if it has its default value."""
    n_arguments = len(getattr(torch.ops.sensorseq, name).default._schema.arguments)
    return lambda *given: function(*given, *("",) * (n_arguments - len(given)))


def problem(C, *, M=2, D=2, N=3, T=4, H=3, K=2, lengths=(4, 0, 2), shared_x=False, x_grad=True):
    def draw(*shape):
        return (0.5 * torch.randn(*shape)).requires_grad_()

    x = draw(1 if shared_x else M, N, T, C).detach()
    for row, length in enumerate(lengths or []):
        x[:, row, length:] = torch.nan
    return {
        "x": x.requires_grad_(x_grad),
        "weight_ih": draw(M, D, 4 * H, C),
        "weight_hh": draw(M, D, 4 * H, H),
        "bias": draw(M, D, 4 * H),
        "weight_out": draw(M, K, 2 * D * H),
        "bias_out": draw(M, K),
        "h_0": draw(M, N, D, H),
        "c_0": draw(M, N, D, H),
        "lengths": torch.tensor(lengths) if lengths else None,
        "recurrent_mask": 2.0 * torch.randint(2, (M, N, D, H)),
    }


def of_layer(arguments):
    return {name: t for name, t in arguments.items() if not name.endswith("_out")}


def call_of(op, arguments):
    is_linear = op == "lstm_linear"
    return (arguments, {"pooling": "meanmax"}) if is_linear else (of_layer(arguments), {})


def assert_same_results_and_gradients(function, exact, arguments, *, rtol=1e-4):
    """Compare two functions of the same arguments, the second of which computes in float64."""
    sides = []
    for call, dtype in ((function, None), (exact, torch.float64)):
        leaves = {
            name: t.detach().to(dtype or t.dtype).requires_grad_(t.requires_grad)
            if t is not None and t.is_floating_point()
            else t
            for name, t in arguments.items()
        }
        outputs = call(**leaves)
        wanted = [t for t in leaves.values() if t is not None and t.requires_grad]
        generator = torch.Generator().manual_seed(3)
        weights = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in outputs]
        total = sum((o * weight).sum() for o, weight in zip(outputs, weights, strict=True))
        sides.append([*outputs, *torch.autograd.grad(total, wanted)])
    for ours, theirs in zip(*sides, strict=True):
        assert ours.shape == theirs.shape
        error = (ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-30)
        assert error < rtol
    return sides[0]


@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
@pytest.mark.parametrize("shared_x", [True, False])
@pytest.mark.parametrize(
    ("C", "x_grad", "form"), [(3, False, "own"), (3, True, "projected"), (17, False, "projected")]
)
def test_projected_or_not_the_results_and_gradients_are_those_of_the_reference(
    kernels, op, shared_x, C, x_grad, form
):
    arguments = problem(C, shared_x=shared_x, x_grad=x_grad)
    arguments, options = call_of(op, arguments)
    assert_same_results_and_gradients(
        lambda **a: getattr(ops, op)(**a, **options),
        lambda **a: getattr(reference, op)(**a, **options),
        arguments,
    )
    backward = f"{op}_backward", form == "projected", kernels.single
    assert kernels.calls == [(op, form, kernels.single), backward]


@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
def test_without_gradients_nothing_is_saved_and_the_input_is_passed_unchanged(kernels, op):
    arguments, options = call_of(op, problem(3))
    with torch.no_grad():
        ours = getattr(ops, op)(**arguments, **options)
        theirs = getattr(reference, op)(**arguments, **options)
    assert kernels.calls == [(op, "own", kernels.single)]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
def test_backward_passes_may_follow_one_another(kernels, op):
    arguments, options = call_of(op, problem(17))
    wanted = [t for t in arguments.values() if t is not None and t.requires_grad]
    total = getattr(ops, op)(**arguments, **options)[0].square().sum()
    passes = [torch.autograd.grad(total, wanted, retain_graph=True) for _ in range(3)]
    names = [name for name, *_ in kernels.calls]
    assert names == [op, *[f"{op}_backward"] * 3]
    for again in passes[1:]:
        torch.testing.assert_close(passes[0], again, rtol=0, atol=0)


@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
def test_second_derivatives_go_through_the_projection_and_the_reference(kernels, op):
    arguments = problem(17, M=1, lengths=None)
    del arguments["recurrent_mask"]
    arguments, options = call_of(op, arguments)

    def penalty(module):
        def of(**a):
            if module is reference:
                a = {"recurrent_mask": None, **a}
            out = getattr(module, op)(**a, **options)[0]
            inputs = [a["x"], a["weight_ih"]]
            return torch.autograd.grad(out.square().sum(), inputs, create_graph=True)

        return of

    for name in ("bias_out", "h_0", "c_0"):
        if name in arguments:
            arguments[name] = arguments[name].detach()
    assert_same_results_and_gradients(penalty(ops), penalty(reference), arguments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("C", [3, 17])
def test_half_precision_is_computed_by_every_kernel_and_returned_in_its_own_dtype(
    kernels, dtype, C
):
    arguments = {
        name: t.detach().to(dtype).requires_grad_(t.requires_grad)
        if t is not None and t.is_floating_point()
        else t
        for name, t in problem(C, x_grad=False).items()
    }
    results = assert_same_results_and_gradients(
        lambda **a: ops.lstm_linear(**a, pooling="meanmax"),
        lambda **a: reference.lstm_linear(**a, pooling="meanmax"),
        arguments,
        rtol=8 * torch.finfo(dtype).eps,
    )
    assert all(result.dtype == dtype for result in results)
    assert {precision for *_, precision in kernels.calls} == {kernels.half}


@pytest.mark.parametrize("C", [3, 17])
def test_under_autocast_results_are_single_precision(kernels, monkeypatch, C):
    monkeypatch.setattr(
        wrapper, "_prepare", lambda *a: [t if t is None else t.contiguous() for t in a]
    )
    arguments = problem(C, x_grad=False)
    arguments["x"] = arguments["x"].bfloat16()

    def half(**a):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ops.lstm_linear(**a, pooling="meanmax")

    results = assert_same_results_and_gradients(
        half, lambda **a: reference.lstm_linear(**a, pooling="meanmax"), arguments, rtol=0.03
    )
    assert all(result.dtype == torch.float32 for result in results)


def test_an_argument_of_a_different_dtype_is_an_error(kernels):
    arguments = of_layer(problem(3))
    arguments["weight_hh"] = arguments["weight_hh"].half()
    with pytest.raises(RuntimeError, match="must have the dtype of x"):
        ops.lstm(**arguments)


@pytest.mark.parametrize("loss", ops.LOSSES)
def test_the_loss_is_composed_with_the_gradients_of_the_reference(kernels, loss):
    arguments = problem(3)
    arguments["class_index"] = torch.tensor([[0, 1, 1]])
    arguments["sample_weight"] = torch.tensor([[1.0, 0.5, 2.0]])
    options = {"loss": loss, "label_smoothing": 0.1}

    def ours(**a):
        mean_loss, logits = ops.lstm_linear_loss(**a, pooling="meanmax", **options)
        assert not logits.requires_grad
        return mean_loss, logits

    def exact(class_index, sample_weight, **a):
        logits, _, _ = reference.lstm_linear(**a, pooling="meanmax")
        return reference.mean_loss(logits, class_index, sample_weight, **options), logits.detach()

    assert_same_results_and_gradients(ours, exact, arguments)


def test_a_module_trains_with_the_kernels(kernels):
    module = LSTMLinear(17, 3, 4, num_layers=2, bidirectional=True, pooling="mean")
    x, y, lengths = torch.randn(3, 5, 17), torch.tensor([3, 0, 1]), torch.tensor([5, 0, 3])
    module.loss(x, y, lengths).backward()
    ours = [p.grad.clone() for p in module.parameters()]
    wanted = ["lstm", "lstm_linear", "lstm_linear_backward", "lstm_backward"]
    assert [name for name, *_ in kernels.calls] == wanted
    exact = LSTMLinear(17, 3, 4, 2, True, "mean", dtype=torch.float64)
    exact.load_state_dict(module.state_dict())
    weights = [exact.lstm.layer(layer, 2) for layer in range(2)]
    hidden, _, _ = reference.lstm(x[None].double(), lengths, *weights[0])
    head = [exact.linear.weight[None], exact.linear.bias[None]]
    logits, _, _ = reference.lstm_linear(hidden, lengths, *weights[1], *head, pooling="mean")
    loss = reference.mean_loss(logits, y[None], None)
    loss.sum().backward()
    theirs = [parameter.grad.float() for parameter in exact.parameters()]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_the_drop_in_class_uses_the_kernels_and_returns_what_torch_returns(
    kernels, packed, autocast
):
    ours = LSTM(3, 5, num_layers=2, bidirectional=True)
    theirs = nn.LSTM(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x, dtype = torch.randn(6, 4, 3), torch.bfloat16 if autocast else torch.float32
    results = []
    for module, own_x in ((ours, x), (theirs, x.double())):
        if packed:
            own_x = pack_padded_sequence(own_x, [2, 6, 1, 3], enforce_sorted=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast and module is ours):
            output, (h_n, c_n) = module(own_x)
        results.append([output.data if packed else output, h_n, c_n])
    assert [name for name, *_ in kernels.calls] == ["lstm", "lstm"]
    precisions = {precision for *_, precision in kernels.calls}
    assert precisions == {kernels.half if autocast else kernels.single}
    for a, b in zip(*results, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() / b.norm() < 4 * torch.finfo(dtype).eps
    assert ours.choice().served_by == "native"


def test_torch_computes_a_layer_that_is_too_wide_and_the_reason_is_listed(kernels):
    lstm = LSTM(3, 257)
    output, _ = lstm(torch.randn(2, 1, 3))
    assert not kernels.calls
    assert output.shape == (2, 1, 257)
    assert lstm.choice().reason == "needs hidden size <= 256"


def test_the_kernels_of_the_cpu_are_restored():
    _, _, _, saved = torch.ops.sensorseq.lstm(
        *(torch.zeros(1, 2, 3, 1), None, torch.zeros(1, 1, 4, 1), torch.zeros(1, 1, 4, 1)),
        *(torch.zeros(1, 1, 4), None, None, None, True),
    )
    assert saved.shape[-1] == 16
