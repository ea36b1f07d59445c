"""LSTM uses different kernels, but gives the same results as torch.nn.LSTM."""

from functools import partial
from unittest import mock

import pytest
import torch
from budget import assert_within_budget
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.utils.checkpoint import checkpoint

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTM


def twins(*sizes, dtype=torch.float64, training=True, **options):
    theirs = nn.LSTM(*sizes, dtype=dtype, **options).train(training)
    ours = LSTM(*sizes, dtype=dtype, **options).train(training)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def run(module, layout, tensors, seed=0):
    """Return the outputs, the states, and the gradients of a randomly weighted sum of these."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    x, *states = leaves
    torch.manual_seed(seed)
    output, (h_n, c_n) = module(layout(x), tuple(states) or None)
    if isinstance(output, PackedSequence):
        output = output.data
    results = (output, h_n, c_n)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(r.shape, generator=generator, dtype=r.dtype) for r in results]
    total = sum((r * w).sum() for r, w in zip(results, weights, strict=True))
    return *results, *torch.autograd.grad(total, [*leaves, *module.parameters()])


def natively(module, *arguments, **options):
    """Like `run`, but raise an error if torch's own implementation is called."""
    with mock.patch.object(nn.LSTM, "forward", side_effect=AssertionError("fell back to torch")):
        return run(module, *arguments, **options)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("n_backward", [1, 2])
def test_gradients_of_a_checkpointed_layer_are_those_of_the_layer(use_reentrant, n_backward):
    ours, theirs = twins(3, 5, num_layers=2, batch_first=True)
    x = torch.randn(4, 9, 3, dtype=torch.float64)

    def gradients(module, call):
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        total = call(lambda t: module(t)[0], leaf).square().sum()
        for i in range(n_backward):
            total.backward(retain_graph=i + 1 < n_backward)
        return [leaf.grad, *(p.grad for p in module.parameters())]

    expected = gradients(theirs, lambda run, leaf: run(leaf))
    if use_reentrant and n_backward > 1:
        n_backward = 1  # torch computes a reentrant block only once
        expected = [g / 2 for g in expected]
    found = gradients(ours, partial(checkpoint, use_reentrant=use_reentrant))
    for ours_grad, grad in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_grad, grad)


def unchanged(x):
    return x


@st.composite
def problems(draw):
    n_windows, n_timesteps = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.sampled_from([0.0, 0.4, 1.0]))
    sizes = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    n_cells = options["num_layers"] * (1 + options["bidirectional"])
    kind = draw(st.sampled_from(["even", "single", "packed", "packed unsorted"]))
    batch, layout = [n_windows], unchanged
    if kind == "single":
        shape, batch = (n_timesteps, sizes[0]), []
    elif kind == "even":
        shape = (n_windows, n_timesteps) if options["batch_first"] else (n_timesteps, n_windows)
        shape = (*shape, sizes[0])
    else:
        shape = (n_windows, n_timesteps, sizes[0])
        as_many = {"min_size": n_windows, "max_size": n_windows}
        lengths = draw(st.lists(st.integers(1, n_timesteps), **as_many))
        if kind == "packed":
            lengths.sort(reverse=True)

        def layout(x):
            return pack_padded_sequence(x, lengths, True, enforce_sorted=kind == "packed")

    torch.manual_seed(draw(st.integers(0, 100)))
    tensors = [torch.randn(shape, dtype=torch.float64)]
    if draw(st.booleans()):
        tensors += torch.randn(2, n_cells, *batch, sizes[1], dtype=torch.float64).unbind()
    return sizes, options, draw(st.booleans()), layout, tensors


@given(problems())
def test_outputs_states_and_gradients_are_torchs_for_every_argument_and_layout(problem):
    sizes, options, training, layout, tensors = problem
    ours, theirs = twins(*sizes, training=training, **options)
    torch.testing.assert_close(natively(ours, layout, tensors), run(theirs, layout, tensors))


@pytest.mark.parametrize("packed", [False, True])
def test_single_precision_is_as_accurate_as_torchs(packed):
    lengths = [30, 22, 11, 4, 1]

    def layout(x):
        return pack_padded_sequence(x, lengths) if packed else x

    ours, exact = twins(3, 20, num_layers=2, bidirectional=True)
    triples = []
    for seed in range(8):
        torch.manual_seed(seed)
        tensors = [torch.randn(30, 5, 3), *torch.randn(2, 4, 5, 20).unbind()]
        expected = run(exact.double(), layout, [t.double() for t in tensors])
        theirs = run(exact.float(), layout, tensors)
        results = natively(ours.float(), layout, tensors)
        triples.append(list(zip(results, theirs, expected, strict=True)))
    for of_one_tensor in zip(*triples, strict=True):
        assert_within_budget(of_one_tensor)


def test_a_packed_sequence_keeps_its_order_and_each_row_has_its_own_state():
    ours, theirs = twins(2, 3)
    sequences = [torch.randn(t, 2, dtype=torch.float64) for t in (2, 5, 1, 3)]
    h_0, c_0 = torch.randn(2, 1, 4, 3, dtype=torch.float64)
    x = pack_sequence(sequences, enforce_sorted=False)
    output, (h_n, c_n) = ours(x, (h_0, c_0))
    expected, _ = theirs(x, (h_0, c_0))
    assert isinstance(output, PackedSequence)
    for our, their in zip(output[1:], expected[1:], strict=True):
        assert torch.equal(our, their)
    for row, sequence in enumerate(sequences):
        _, last = theirs(sequence, (h_0[:, row], c_0[:, row]))
        torch.testing.assert_close((h_n[:, row], c_n[:, row]), last)


def test_the_output_can_be_viewed_wherever_torchs_can():
    ours, theirs = twins(2, 3, bidirectional=True)
    x = torch.randn(4, 5, 2, dtype=torch.float64)
    for module in (ours, theirs):
        assert module(x)[0].view(4, 5, 2, 3).is_contiguous()


@pytest.mark.parametrize(
    ("x", "states"),
    [
        (torch.zeros(5, 2, 4), None),
        (torch.zeros(5, 2, 3, 1), None),
        (torch.zeros(3), None),
        (torch.zeros(0, 2, 3), None),
        (torch.zeros(5, 2, 3, dtype=torch.float64), None),
        (torch.zeros(5, 2, 3, dtype=torch.int64), None),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 3, 6), torch.zeros(1, 2, 6))),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 2, 6), torch.zeros(2, 2, 6))),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 6), torch.zeros(1, 6))),
        (torch.zeros(5, 3), (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6))),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 2, 6),)),
        (torch.zeros(5, 2, 3), torch.zeros(2, 1, 2, 6)),
        (torch.zeros(5, 2, 3), (torch.zeros(1, 2, 6).double(), torch.zeros(1, 2, 6))),
        (PackedSequence(torch.zeros(6, 4), torch.tensor([4, 2])), None),
        (PackedSequence(torch.zeros(6, 3), torch.tensor([4, 3])), None),
        (PackedSequence(torch.zeros(6, 3), torch.tensor([2, 4])), None),
        (PackedSequence(torch.zeros(0, 3), torch.tensor([], dtype=torch.int64)), None),
        ([[0.0, 0.0, 0.0]], None),
    ],
)
def test_arguments_that_do_not_fit_raise_torchs_errors(x, states):
    ours, theirs = twins(3, 6, dtype=torch.float32)
    with pytest.raises(Exception) as expected:  # noqa: PT011  whatever torch says
        theirs(x, states)
    with pytest.raises(expected.type) as raised:
        ours(x, states)
    assert str(raised.value) == str(expected.value)


def test_an_empty_batch_gives_the_same_result_as_in_torch():
    ours, theirs = twins(3, 6, dtype=torch.float32)
    x = torch.zeros(5, 0, 3)
    assert ours(x)[0].shape == theirs(x)[0].shape == (5, 0, 6)


def hidden_or_error(module, x):
    """Return the outputs or the error, because torch's LSTM lacks bfloat16 on some processors."""
    try:
        return module(x)[0]
    except RuntimeError as error:
        return str(error)


def assert_same(our, their):
    if isinstance(their, str):
        assert "primitive" in their
        assert our == their
    else:
        assert our.dtype == their.dtype == torch.bfloat16
        assert torch.equal(our, their)


def test_calls_without_a_kernel_have_the_bits_of_torch():
    x = torch.randn(5, 2, 3)
    ours, theirs = twins(3, 6, dtype=torch.float32, num_layers=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(hidden_or_error(ours, x), hidden_or_error(theirs, x))

    def gradients(module):
        def total(parameters):
            return torch.func.functional_call(module, parameters, (x,))[0].sum()

        return torch.func.grad(total)(dict(module.named_parameters()))

    expected = gradients(theirs)
    assert all(torch.equal(grad, expected[name]) for name, grad in gradients(ours).items())
    low = x.bfloat16()
    assert_same(hidden_or_error(ours.bfloat16(), low), hidden_or_error(theirs.bfloat16(), low))
    assert ours.to("meta")(x.bfloat16().to("meta"))[0].shape == (5, 2, 6)


def test_a_functional_call_uses_the_weights_it_is_given():
    ours, theirs = twins(3, 6)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    doubled = {name: 2 * p.detach() for name, p in theirs.named_parameters()}
    expected, _ = torch.func.functional_call(theirs, doubled, (x,))
    torch.testing.assert_close(torch.func.functional_call(ours, doubled, (x,))[0], expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own use
@torch.no_grad()
def test_a_forward_mode_derivative_is_refused_as_torch_refuses_it():
    ours, _ = twins(3, 6, dtype=torch.float32)
    x = torch.randn(5, 2, 3)
    with pytest.raises(NotImplementedError, match="forward AD"):
        torch.func.jvp(lambda x: ours(x)[0], (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward AD"):
        ours(forward_ad.make_dual(x, x))


def test_second_derivatives_agree_with_finite_differences():
    ours, _ = twins(2, 3, bidirectional=True)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ours(x)[0], [x], fast_mode=True)


# dynamo reads the .grad of inner tensors, and suppresses the warning itself
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_it_compiles_as_torchs_lstm_does_and_without_a_break_if_dynamo_allows():
    ours, theirs = twins(2, 4, bidirectional=True, dtype=torch.float32)
    x = torch.randn(2, 3, 2)
    expected = run(theirs, unchanged, [x])
    for whole in (False, True):
        torch._dynamo.reset()
        with torch._dynamo.config.patch(allow_rnn=whole):
            compiled = torch.compile(ours, fullgraph=whole, backend="aot_eager")
            torch.testing.assert_close(run(compiled, unchanged, [x]), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_exported_and_traced_programs_need_torch_alone():
    ours, _ = twins(2, 4, dtype=torch.float32)
    x = torch.randn(6, 3, 2)
    exported = torch.export.export(ours, (x,), strict=True)
    assert "aten.lstm" in str(exported.graph)
    assert "sensorseq" not in str([node.target for node in exported.graph.nodes])
    traced = str(torch.jit.trace(ours, (x,)).inlined_graph)
    assert "aten::lstm" in traced
    assert "sensorseq::" not in traced


def test_a_projection_is_refused():
    with pytest.raises(ArgumentError, match=r"proj_size=2 .* use torch\.nn\.LSTM"):
        LSTM(3, 6, proj_size=2)
