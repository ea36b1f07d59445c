"""torch's own LSTM, called with our arguments, gives the results of the reference."""

import importlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import ops
from sensorseq.ops import framework, reference
from sensorseq.ops.choice import choose


def problem(lengths, *, M, D, T, shared_x, states, seed, C=2, H=3, K=2, pooling="last"):
    """Arguments of lstm_linear in float64, with NaN beyond the lengths."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.5 * torch.randn(*shape, dtype=torch.float64, generator=generator)

    N = len(lengths) if lengths else 3
    x = draw(1 if shared_x else M, N, T, C)
    for row, length in enumerate(lengths or []):
        x[:, row, length:] = torch.nan
    width = ops.pooled_size(pooling, H, D)
    tensors = [x, draw(M, D, 4 * H, C), draw(M, D, 4 * H, H), draw(M, D, 4 * H)]
    tensors += [draw(M, K, width), draw(M, K)]
    tensors += [draw(M, N, D, H), draw(M, N, D, H)] if states else [None, None]
    return tensors, torch.tensor(lengths) if lengths else None


def run(module, tensors, lengths, pooling, *, head=True, mask=None, seed=5):
    """Return the outputs and gradients of a module's `lstm_linear` or `lstm`."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
    x, w_ih, w_hh, bias, w_out, b_out, h_0, c_0 = leaves
    if head:
        of_head = w_out, b_out, h_0, c_0, mask, pooling
        outputs = module.lstm_linear(x, lengths, w_ih, w_hh, bias, *of_head)
    else:
        outputs = module.lstm(x, lengths, w_ih, w_hh, bias, h_0, c_0, mask)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, dtype=o.dtype, generator=generator) for o in outputs]
    sum((o * w).sum() for o, w in zip(outputs, weights, strict=True)).backward()
    used = [leaf for leaf in leaves if leaf is not None and (head or leaf is not w_out)]
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in used]
    return [*(o.detach() for o in outputs), *grads]


@given(
    lengths=st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=6),
    M=st.sampled_from([1, 3]),
    D=st.sampled_from([1, 2]),
    shared_x=st.booleans(),
    states=st.booleans(),
    pooling=st.sampled_from(ops.POOLINGS),
    head=st.booleans(),
    seed=st.integers(0, 50),
)
def test_results_and_gradients_are_those_of_the_reference(
    lengths, M, D, shared_x, states, pooling, head, seed
):
    sizes = {"M": M, "D": D, "T": 5, "shared_x": shared_x, "states": states, "seed": seed}
    tensors, on_device = problem(lengths, pooling=pooling, **sizes)
    call = tensors, on_device, pooling
    ours, theirs = (run(module, *call, head=head) for module in (framework, reference))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    assert not any(tensor.isnan().any() for tensor in ours)


@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_a_recurrent_mask_is_applied(lengths):
    sizes = {"M": 2, "D": 2, "T": 4, "shared_x": False, "states": True, "seed": 0}
    tensors, on_device = problem(lengths, **sizes)
    mask = 2.0 * torch.randint(2, tensors[-1].shape).double()
    call = tensors, on_device, "last"
    sides = (run(module, *call, mask=mask) for module in (framework, reference))
    torch.testing.assert_close(*sides, rtol=0, atol=0)


@pytest.mark.parametrize("lengths", [[0, 0], None])
@pytest.mark.parametrize("T", [0, 2])
def test_without_steps_the_states_are_unchanged(lengths, T):
    sizes = {"M": 2, "D": 2, "shared_x": True, "states": True, "seed": 0}
    (x, *weights, _, _, h_0, c_0), on_device = problem(lengths, T=T, **sizes)
    hidden, h_n, c_n = framework.lstm(x, on_device, *weights, h_0, c_0)
    assert hidden.shape == (2, x.shape[1], T, 6)
    if lengths or not T:
        assert not hidden.any()
        torch.testing.assert_close(h_n, h_0, rtol=0, atol=0)
        torch.testing.assert_close(c_n, c_0, rtol=0, atol=0)


@pytest.mark.parametrize("lengths", [[3, -1], [6, 1]])
def test_a_length_out_of_range_is_an_error(lengths):
    sizes = {"M": 1, "D": 1, "T": 5, "shared_x": True, "states": False, "seed": 0}
    (x, *weights, _, _, _, _), _ = problem([5, 5], **sizes)
    with pytest.raises(RuntimeError, match="lengths must be between 0 and 5"):
        framework.lstm(x, torch.tensor(lengths), *weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]])
def test_half_precision_on_the_cpu_has_the_error_of_its_dtype(dtype, lengths):
    sizes = {"M": 2, "D": 2, "T": 5, "shared_x": False, "states": True, "seed": 1}
    tensors, on_device = problem(lengths, pooling="meanmax", **sizes)
    *halves, h_0, c_0 = (t.to(dtype) for t in tensors)
    states = {"lengths": on_device, "h_0": h_0, "c_0": c_0}
    results = ops.lstm_linear(*halves, pooling="meanmax", **states)
    x, *weights_and_bias = (t.double() for t in (*halves, h_0, c_0))
    exact = reference.lstm_linear(x, on_device, *weights_and_bias, pooling="meanmax")
    for ours, theirs in zip(results, exact, strict=True):
        assert ours.dtype == dtype
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < 4 * torch.finfo(dtype).eps


def test_the_mean_of_a_long_sequence_is_in_the_range_of_float16(monkeypatch):
    hidden = torch.full((1, 1, 70_000, 1), 0.99, dtype=torch.float16)
    last = hidden[:, :, -1:]
    monkeypatch.setattr(framework, "lstm", lambda *_: (hidden, last, last))  # the real LSTM is slow
    weights = [torch.zeros(1, 1, 4, 1), torch.zeros(1, 1, 4, 1), torch.zeros(1, 1, 4)]
    head = [torch.ones(1, 1, 1), torch.zeros(1, 1)]
    weights, head = ([t.half() for t in part] for part in (weights, head))
    logits, _, _ = framework.lstm_linear(hidden, None, *weights, *head, pooling="mean")
    torch.testing.assert_close(logits.flatten(), last.flatten(), rtol=2e-3, atol=0)


@pytest.mark.long
# raised inside torch's compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_with_lengths_it_can_be_compiled_with_graph_breaks():
    sizes = {"M": 1, "D": 2, "T": 3, "shared_x": False, "states": True, "seed": 1}
    tensors, lengths = problem([3, 0, 2], **sizes)
    (x, *others) = (t.clone().requires_grad_() for t in tensors)
    traced = torch.compile(framework.lstm_linear, backend="eager")
    for _ in range(2):
        sides = []
        for function in (traced, framework.lstm_linear):
            outputs = function(x, lengths, *others)
            total = sum(out.square().sum() for out in outputs)
            sides.append([*outputs, *torch.autograd.grad(total, [x, *others])])
        torch.testing.assert_close(*sides, rtol=0, atol=0)
        lengths = torch.tensor([1, 3, 2])
        x = x.nan_to_num()


def test_under_autocast_it_computes_in_half_and_returns_float32(monkeypatch):
    wrapper = importlib.import_module("sensorseq.ops.lstm_linear")

    def choose_here(device, dtype, **of_call):
        return choose("cuda", dtype, is_built=False, **of_call)

    monkeypatch.setattr(wrapper, "choose_here", choose_here)
    monkeypatch.setattr(wrapper, "computing_dtype", lambda device_type, dtype: torch.bfloat16)
    sizes = {"M": 2, "D": 2, "T": 5, "shared_x": False, "states": False, "seed": 1}
    tensors, lengths = problem([5, 0, 3], **sizes)
    tensors = [t.float() for t in tensors[:6]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = ops.lstm_linear(*tensors, lengths=lengths)
    halves = [t.bfloat16() for t in tensors]
    exact = framework.lstm_linear(halves[0], lengths, *halves[1:])
    for ours, theirs in zip(results, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=0)


def test_without_lengths_it_is_traced_without_a_graph_break():
    sizes = {"M": 2, "D": 2, "T": 5, "shared_x": False, "states": True, "seed": 1}
    (x, *others), _ = problem(None, **sizes)
    traced = torch.compile(framework.lstm_linear, fullgraph=True, backend="eager")
    sides = (function(x, None, *others) for function in (traced, framework.lstm_linear))
    torch.testing.assert_close(*sides, rtol=0, atol=0)
