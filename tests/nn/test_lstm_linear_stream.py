"""A stream gives the module's results for the full sequence, however it is divided into pieces."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isas import ISAS, using_isa
from torch import nn

from sensorseq.errors import ArgumentError, InputError
from sensorseq.nn import HEAD_NORMS, LSTMLinear, Stream
from sensorseq.ops import POOLINGS


def module_of(*sizes, dtype=torch.float32, **options):
    module = LSTMLinear(*sizes, dtype=dtype, **options)
    if isinstance(module.norm, nn.BatchNorm1d):
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2.0)
    return module.eval()


@given(st.data())
def test_after_every_piece_the_logits_are_those_of_all_steps_so_far(data):
    n_windows = data.draw(st.integers(1, 7), "windows")
    pieces = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6), "pieces")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    n_channels = data.draw(st.integers(1, 4), "channels")
    module = module_of(
        n_channels,
        data.draw(st.integers(1, 20), "hidden size"),
        3,
        data.draw(st.integers(1, 3), "layers"),
        pooling=data.draw(st.sampled_from(POOLINGS)),
        head_norm=data.draw(st.sampled_from(HEAD_NORMS)),
        dtype=dtype,
    )
    x = torch.randn(n_windows, sum(pieces), n_channels, dtype=dtype)
    same_bits = module.pooling == "last"
    with using_isa(data.draw(st.sampled_from(ISAS), "instruction set")), torch.no_grad():
        stream, seen = module.stream(n_windows), 0
        for piece in x.split(pieces, dim=1):
            logits = stream(piece)
            seen += piece.shape[1]
            exact = {"rtol": 0, "atol": 0} if same_bits else {}
            torch.testing.assert_close(logits, module(x[:, :seen]), **exact)
            assert stream.n_steps.tolist() == [seen] * n_windows


@pytest.mark.parametrize("num_layers", [1, 2])
def test_one_step_may_come_without_its_dimension(num_layers):
    module = module_of(3, 9, 4, num_layers)
    x = torch.randn(1, 3)
    expected = module.stream()(x[None])
    for form in (x, x[0]):
        stream = module.stream()
        assert torch.equal(stream(form), expected)
        assert stream.n_steps.tolist() == [1]


def test_pieces_need_not_be_contiguous():
    module = module_of(3, 9, 4)
    x = torch.randn(3, 10, 4).transpose(0, 2)
    assert not x[:, :5].is_contiguous()
    assert torch.equal(module.stream(4)(x), module(x))


@pytest.mark.parametrize("head_norm", HEAD_NORMS)
def test_a_module_in_training_streams_as_in_evaluation(head_norm):
    options = {"dropout": 0.5, "recurrent_dropout": 0.5, "pooling": "meanmax"}
    module = module_of(2, 6, 3, 2, head_norm=head_norm, **options).train()
    x = torch.randn(3, 8, 2)
    logits = module.stream(3)(x)
    assert module.training
    torch.testing.assert_close(logits, module.eval()(x))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_state_equals_the_modules_and_a_stream_can_continue_from_it(num_layers):
    module = module_of(2, 6, 3, num_layers, pooling="mean")
    stream = module.stream(3)
    x, y = torch.randn(2, 3, 8, 2)
    stream(x)
    _, expected = module(x, return_state=True)
    for ours, theirs in zip(stream.state, expected, strict=True):
        assert torch.equal(ours, theirs)
    for part in stream.state:
        part.fill_(torch.nan)  # a copy, so the stream's own state is unchanged
    other = module.stream(3)
    other(y)
    other.state = stream.state
    assert other.n_steps.tolist() == [0, 0, 0]
    torch.testing.assert_close(other(y), module(y, state=expected))
    with pytest.raises(InputError, match=r"h has shape \(1, 3\); expected"):
        other.state = torch.zeros(1, 3), torch.zeros(1, 3)


ROW_1 = [1, -3, [1], (1, -3), slice(1, 2), torch.tensor([1]), torch.arange(4) == 1]


@pytest.mark.parametrize(
    ("pooling", "rows"), [*((p, 1) for p in POOLINGS), *(("meanmax", rows) for rows in ROW_1[1:])]
)
def test_a_row_that_is_reset_begins_anew_and_the_others_continue(pooling, rows):
    module = module_of(2, 6, 3, 2, pooling=pooling)
    x, y = torch.randn(2, 4, 5, 2)
    stream = module.stream(4)
    stream(x)
    stream.reset(rows)
    logits = stream(y)
    assert stream.n_steps.tolist() == [10, 5, 10, 10]
    torch.testing.assert_close(logits[[1]], module(y[[1]]))
    torch.testing.assert_close(logits[[0, 2, 3]], module(torch.cat([x, y], 1))[[0, 2, 3]])
    stream.reset()
    torch.testing.assert_close(stream(y), module(y))
    assert stream.n_steps.tolist() == [5] * 4


@pytest.mark.parametrize("rows", [4, [0, 7], (0, 4), "all", torch.ones(3, dtype=torch.bool)])
def test_invalid_rows_cannot_be_reset(rows):
    stream = module_of(2, 6, 3).stream(4)
    stream(torch.randn(4, 2))
    with pytest.raises(InputError, match="cannot index 4 sequences"):
        stream.reset(rows)
    assert stream.n_steps.tolist() == [1] * 4


def test_a_module_and_its_stream_do_not_affect_each_other():
    module = module_of(2, 6, 3, 2, head_norm="batch")
    before = copy.deepcopy(module)
    x = torch.randn(3, 8, 2)
    stream = module.stream(3)
    stream(x)
    assert list(module.state_dict()) == list(before.state_dict())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(x), module(x))
    stream.reset()
    expected = module(x).detach()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.mul_(2)
    module.double()
    assert torch.equal(stream(x), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_copies_of_a_stream_are_independent(pooling):
    module = module_of(2, 6, 3, 2, pooling=pooling)
    x = torch.randn(3, 8, 2)
    stream = module.stream(3)
    stream(x[:, :5])
    copies = [copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    stream(torch.randn(3, 4, 2))
    for copied in copies:
        torch.testing.assert_close(copied(x[:, 5:]), module(x))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_graph_is_built_and_no_gradient_is_required(pooling):
    module = module_of(2, 6, 3, 2, pooling=pooling, head_norm="layer")
    stream = module.stream()
    for _ in range(2):
        logits = stream(torch.randn(1, 4, 2, requires_grad=True))
        assert not logits.requires_grad
    assert not any(part.requires_grad for part in stream.state)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_inference_mode_may_begin_and_end_anywhere(pooling):
    with torch.inference_mode():
        stream = module_of(2, 6, 3, pooling=pooling).stream()
        stream(torch.randn(1, 2))
    stream(torch.randn(1, 2))
    stream.reset()
    with torch.inference_mode():
        stream(torch.randn(1, 2))
        stream.reset()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 5), r"x has shape \(2, 4, 5\); expected \(2, n_timesteps, 3\)"),
        (torch.zeros(1, 4, 3), r"x has shape \(1, 4, 3\)"),
        (torch.zeros(4, 3), r"for one step \(2, 3\)\."),
        (torch.zeros(3), r"x has shape \(3,\)"),
        (torch.tensor(0.0), r"x has shape \(\)"),
        (torch.zeros(1, 2, 4, 3), r"x has shape \(1, 2, 4, 3\)"),
        (torch.zeros(2, 0, 3), "x has no timestep"),
        (torch.zeros(2, 4, 3).double(), r"x is torch.float64 on cpu; .* torch.float32"),
        (torch.zeros(2, 4, 3).long(), "x is torch.int64"),
        (torch.zeros(2, 4, 3, device="meta"), "on meta"),
        ([[0.0] * 3] * 2, r"x must be a torch\.Tensor, not a list"),
        (torch.zeros(2, 3).numpy(), r"x must be a torch\.Tensor, not a ndarray"),
    ],
)
def test_a_piece_that_does_not_fit_is_named_and_leaves_the_state(x, message):
    module = module_of(3, 6, 4, 2, pooling="mean")
    stream, fitting = module.stream(2), torch.randn(2, 5, 3)
    stream(fitting[:, :2])
    with pytest.raises(InputError, match=message):
        stream(x)
    torch.testing.assert_close(stream(fitting[:, 2:]), module(fitting))


def test_modules_that_cannot_be_streamed_are_refused():
    with pytest.raises(ArgumentError, match="bidirectional=True cannot be streamed"):
        LSTMLinear(2, 6, 3, bidirectional=True).stream()
    with pytest.raises(ArgumentError, match=r"bfloat16 on cpu; .* return_state=True"):
        LSTMLinear(2, 6, 3, dtype=torch.bfloat16).stream()
    with pytest.raises(ArgumentError, match="float32 on meta"):
        Stream(LSTMLinear(2, 6, 3, device="meta"))
    with pytest.raises(ArgumentError, match="n_windows=0 must be an integer of at least 1"):
        LSTMLinear(2, 6, 3).stream(0)


def test_weights_arranged_for_a_different_instruction_set_are_refused():
    module, x = module_of(2, 6, 3), torch.randn(1, 4, 2)
    for isa in ISAS:
        with using_isa(isa):
            stream = module.stream()
            stream(x)
        before = stream.state
        for other in set(ISAS) - {isa}:
            with using_isa(other), pytest.raises(RuntimeError, match="another instruction set"):
                stream(x)
        torch.testing.assert_close(stream.state, before, rtol=0, atol=0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc/self/statm")
def test_a_stream_needs_no_more_memory_after_many_steps():
    stream, x = module_of(2, 16, 3, 2, pooling="meanmax").stream(), torch.randn(1, 2)

    def pages_after(n_calls):
        for _ in range(n_calls):
            stream(x.requires_grad_())
        return int(Path("/proc/self/statm").read_text().split()[1])

    before = pages_after(1000)
    assert pages_after(10_000) - before < 100  # 100 pages of 4096 bytes: 41 bytes per call
