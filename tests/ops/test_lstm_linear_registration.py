"""The registration of the ops in torch: schemas, fake kernels, gradients, compile, autocast."""

import subprocess

import pytest
import torch
from op_calls import OpCalls

from sensorseq import ops
from sensorseq.nn import LSTMLinear
from sensorseq.ops import _extension


def arguments(*, requires_grad, states=True, lengths=(4, 0, 2), n_directions=2, n_models=2):
    M, N, T, C, H, D, K = n_models, 3, 4, 2, 3, n_directions, 2

    def draw(*shape):
        return (0.5 * torch.randn(*shape, dtype=torch.float64)).requires_grad_(requires_grad)

    weights = [draw(M, D, 4 * H, C), draw(M, D, 4 * H, H), draw(M, D, 4 * H)]
    return {
        "x": draw(1, N, T, C),
        "lengths": torch.tensor(lengths) if lengths else None,
        "weights": weights,
        "head": lambda pooling: [draw(M, K, ops.pooled_size(pooling, H, D)), draw(M, K)],
        "states": [draw(M, N, D, H), draw(M, N, D, H)] if states else [None, None],
    }


WITHOUT_TRACING = ("test_schema", "test_autograd_registration", "test_faketensor")


def check(op, call, requires_grad):
    """Run torch's check of an op; calls without gradients omit the slow tracing."""
    chosen = {} if requires_grad else {"test_utils": WITHOUT_TRACING}
    torch.library.opcheck(op, call, **chosen)


@pytest.mark.parametrize(("requires_grad", "states"), [(True, True), (False, False)])
def test_lstm_linear_passes_torchs_own_op_check(requires_grad, states):
    # full lengths, because the saved state of shorter rows has undefined parts, as from torch.empty
    lengths = (4, 4, 4) if states else None
    a = arguments(requires_grad=requires_grad, states=states, lengths=lengths)
    call = [a["x"], a["lengths"], *a["weights"], *a["head"]("meanmax"), *a["states"]]
    op = torch.ops.sensorseq.lstm_linear.default
    check(op, (*call, None, "meanmax", requires_grad), requires_grad)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_lstm_passes_torchs_own_op_check(requires_grad):
    a = arguments(requires_grad=requires_grad, lengths=(4, 4, 4))
    call = [a["x"], a["lengths"], *a["weights"], *a["states"]]
    check(torch.ops.sensorseq.lstm.default, (*call, None, requires_grad), requires_grad)


def test_the_backward_op_passes_torchs_own_op_check():
    a = arguments(requires_grad=False)
    call = [a["x"], a["lengths"], *a["weights"], *a["head"]("max"), *a["states"], None]
    logits, h_n, c_n, pooled, saved = torch.ops.sensorseq.lstm_linear(*call, "max", True)
    del call[6]  # bias_out
    grads = [torch.randn_like(t) for t in (logits, h_n, c_n)]
    op = torch.ops.sensorseq.lstm_linear_backward.default
    torch.library.opcheck(op, (*grads, *call, pooled, saved, "max", True))


@pytest.mark.parametrize("pooling", ["last", "meanmax"])
def test_first_and_second_derivatives_agree_with_finite_differences(pooling):
    a = arguments(requires_grad=True, n_models=1)
    inputs = [a["x"], *a["weights"], *a["head"](pooling), *a["states"]]

    def function(x, w_ih, w_hh, bias, w_out, b_out, h_0, c_0):
        states = {"lengths": a["lengths"], "h_0": h_0, "c_0": c_0}
        return ops.lstm_linear(x, w_ih, w_hh, bias, w_out, b_out, pooling=pooling, **states)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_the_hidden_sequence_has_first_and_second_derivatives_for_shared_and_own_inputs():
    a = arguments(requires_grad=True)
    inputs = [a["x"], *a["weights"], *a["states"]]

    def function(x, w_ih, w_hh, bias, h_0, c_0):
        return ops.lstm(x, w_ih, w_hh, bias, lengths=a["lengths"], h_0=h_0, c_0=c_0)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_second_derivatives_see_the_recurrent_mask():
    a = arguments(requires_grad=True, states=False, n_models=1)
    head = a["head"]("last")
    mask = torch.tensor([0.0, 1.5]).double()[torch.randint(2, (1, 3, 2, 3))]

    def hidden(*inputs):
        return ops.lstm(*inputs, recurrent_mask=mask)

    def logits(*inputs):
        return ops.lstm_linear(*inputs, recurrent_mask=mask)

    inputs = [a["x"], *a["weights"]]
    assert torch.autograd.gradgradcheck(hidden, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(logits, [*inputs, *head], fast_mode=True)


def test_state_kept_for_the_backward_pass_is_not_part_of_the_graph():
    a = arguments(requires_grad=True)
    inputs = [a["x"], a["lengths"], *a["weights"]]
    hidden, _, _, saved = torch.ops.sensorseq.lstm(*inputs, *a["states"], None, True)
    assert hidden.requires_grad
    assert not saved.requires_grad
    call = [*inputs, *a["head"]("last"), *a["states"], None]
    logits, _, _, pooled, saved = torch.ops.sensorseq.lstm_linear(*call, "last", True)
    assert logits.requires_grad
    assert not pooled.requires_grad
    assert not saved.requires_grad


def test_state_is_kept_only_if_a_backward_pass_can_follow():
    module, x = LSTMLinear(2, 4, 3, num_layers=2), torch.randn(3, 5, 2)
    with OpCalls("lstm", "lstm_linear") as seen:
        module(x)
        with torch.no_grad():
            module(x)
        module.requires_grad_(False)
        module(x)
        module(x.requires_grad_())
    for calls in seen.calls.values():
        assert [save_state for *_, save_state in calls] == [True, False, False, True]


def test_gradients_that_are_not_required_are_none():
    a = arguments(requires_grad=False)
    weight_ih, weight_hh, bias = a["weights"]
    weight_hh.requires_grad_()
    hidden, _, _ = ops.lstm(a["x"], weight_ih, weight_hh, bias)
    hidden.sum().backward()
    assert weight_hh.grad is not None
    assert weight_ih.grad is None
    assert a["x"].grad is None


def first_and_second(outputs, inputs):
    """Return outputs, gradients, and the gradients of the squared norm of the gradients."""
    first = torch.autograd.grad(sum(t.sum() for t in outputs), inputs, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), inputs, allow_unused=True)
    return [*outputs, *first, *(g for g in second if g is not None)]


@pytest.mark.parametrize("name", ["lstm", "lstm_linear", "lstm_linear_loss"])
def test_the_fast_path_of_eager_mode_has_the_bits_of_the_registered_op(name):
    a = arguments(requires_grad=True)
    inputs = [a["x"], *a["weights"], *a["states"]]
    x, lengths, weights, states = a["x"], a["lengths"], a["weights"], a["states"]
    named = {"lengths": lengths, "h_0": states[0], "c_0": states[1]}
    head, y = a["head"]("meanmax"), torch.tensor([[0, 1, 1]])
    raw = getattr(torch.ops.sensorseq, name)
    if name == "lstm":
        short = ops.lstm(x, *weights, **named)
        registered = raw(x, lengths, *weights, *states, None, True)[:3]
    elif name == "lstm_linear":
        inputs += head
        short = ops.lstm_linear(x, *weights, *head, pooling="meanmax", **named)
        registered = raw(x, lengths, *weights, *head, *states, None, "meanmax", True)[:3]
    else:
        inputs += head
        short = ops.lstm_linear_loss(x, y, *weights, *head, pooling="meanmax", **named)[:1]
        options = ["meanmax", "cross_entropy", 0.0, True, True]
        registered = raw(x, lengths, y, None, *weights, *head, *states, None, *options)[:1]
    assert type(short[0].grad_fn) is not type(registered[0].grad_fn)
    sides = (first_and_second(outputs, inputs) for outputs in (short, registered))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*sides, strict=True))


def test_a_mode_a_transform_or_a_subclass_sees_the_registered_op():
    class Named(torch.Tensor):
        pass

    module, x = LSTMLinear(2, 4, 3), torch.randn(3, 5, 2)
    with OpCalls("lstm_linear") as seen:
        module(x)
    assert len(seen.calls["lstm_linear"]) == 1
    eager, other = (module(t).grad_fn.next_functions[0][0] for t in (x, x.as_subclass(Named)))
    assert type(other) is not type(eager)
    batched = torch.func.vmap(module)(x[None])[0]
    torch.testing.assert_close(batched, module(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's own compiler
def test_a_compiled_module_without_graph_breaks_gives_the_same_bits():
    module = LSTMLinear(3, 8, 4, num_layers=2, bidirectional=True, pooling="meanmax")
    compiled = torch.compile(module, fullgraph=True)
    x, lengths = torch.randn(5, 12, 3), torch.tensor([12, 3, 0, 7, 12])
    results = []
    for forward in (module, compiled):
        module.zero_grad()
        logits = forward(x, lengths)
        logits.sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in module.parameters())])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x, lengths), module(x, lengths))


def test_traced_without_graph_breaks_the_module_gives_the_same_results():
    module = LSTMLinear(3, 8, 4, pooling="meanmax").eval()
    traced = torch.compile(module, fullgraph=True, backend="eager")
    x = torch.randn(5, 12, 3)
    torch.testing.assert_close(traced(x), module(x), rtol=0, atol=0)


def test_under_autocast_the_core_computes_in_single_precision():
    module = LSTMLinear(3, 8, 4, num_layers=2)
    x = torch.randn(5, 12, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = module(x)
        half = module(x.bfloat16())
    assert logits.dtype == half.dtype == torch.float32
    torch.testing.assert_close(logits, module(x), rtol=0, atol=0)
    logits.sum().backward()
    assert module.linear.weight.grad.dtype == torch.float32


def test_under_autocast_the_raw_ops_accept_half_precision():
    a = arguments(requires_grad=False, lengths=None)
    halves = [t.bfloat16() for t in (a["x"], *a["weights"], *a["head"]("mean"), *a["states"])]
    for op, extra in ((torch.ops.sensorseq.lstm, ()), (torch.ops.sensorseq.lstm_linear, ("mean",))):
        results = []
        for enabled, tensors in ((True, halves), (False, [t.float() for t in halves])):
            x, *inputs, h_0, c_0 = tensors
            inputs = inputs if extra else inputs[:3]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                results.append(op(x, None, *inputs, h_0, c_0, None, *extra, True))
        assert {ours.dtype for ours in results[0]} == {torch.float32}
        torch.testing.assert_close(*results, rtol=0, atol=0)


def test_the_library_names_libtorch():
    # Under a CUDA build of torch, the weak symbols of the CUDA shim resolve only if the library
    # lists libtorch as needed.
    command = ["readelf", "--dynamic", str(_extension.load())]
    dynamic = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = [line for line in dynamic.splitlines() if "(NEEDED)" in line]
    assert any("[libtorch.so]" in line for line in needed), needed
    # no Python library is listed, so that one binary works with every interpreter
    assert not any("libpython" in line or "libtorch_python" in line for line in needed), needed
