"""bfloat16 at inference: a step is that of rounded factors, a sequence that of its steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import ops
from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import _extension, reference

needs_bfloat16 = pytest.mark.skipif(
    not _extension.has_bfloat16(), reason="the processor lacks AVX512_BF16"
)
SIZES = st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 67])  # around vectors of values and of pairs
CHANNELS = st.sampled_from([1, 2, 3, 17, 32, 33])


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(C, H, *, n_models=1, n_directions=1, seed=0):
    """weight_ih, weight_hh and bias."""
    M, D = n_models, n_directions
    return [
        0.4 * draw(M, D, 4 * H, C, seed=seed + 1),
        draw(M, D, 4 * H, H, seed=seed + 2) / H**0.5,
        0.4 * draw(M, D, 4 * H, seed=seed + 3),
    ]


def states(M, N, D, H, *, seed=0):
    """h_0, c_0 and a recurrent mask."""
    mask = (draw(M, N, D, H, seed=seed + 4) > -0.5).float() / 0.7
    return {
        "h_0": draw(M, N, D, H, seed=seed + 5),
        "c_0": draw(M, N, D, H, seed=seed + 6),
        "recurrent_mask": mask,
    }


def rounded(values):
    return values.bfloat16().double()


def assert_same_bits(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@needs_bfloat16
@given(
    n_windows=st.integers(1, 13),
    n_channels=CHANNELS,
    hidden_size=SIZES,
    n_directions=st.sampled_from([1, 2]),
    ties=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_step_is_that_of_rounded_factors_to_the_rounding_of_float32(
    n_windows, n_channels, hidden_size, n_directions, ties, seed
):
    x = draw(1, n_windows, 1, n_channels, seed=seed)
    weights = layer(n_channels, hidden_size, n_directions=n_directions, seed=seed)
    of_states = states(1, n_windows, n_directions, hidden_size, seed=seed)
    if ties:  # from 1 to 2, every second lies between two bfloat16
        of_states["recurrent_mask"] = torch.ones_like(of_states["h_0"])
        x, of_states["h_0"] = (torch.round(values * 256) / 256 for values in (x, of_states["h_0"]))
    _, *ours = ops.lstm(x, *weights, precision="bfloat16", **of_states)
    _, *theirs = reference.lstm(
        rounded(x),
        None,
        *(rounded(weight) for weight in weights[:2]),
        weights[2].double(),
        rounded(of_states["h_0"] * of_states["recurrent_mask"]),
        of_states["c_0"].double(),
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6)


@needs_bfloat16
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    n_channels=CHANNELS,
    hidden_size=SIZES,
    n_directions=st.sampled_from([1, 2]),
    shared_x=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_sequence_has_the_bits_of_its_steps_one_at_a_time_and_alone(
    lengths, n_channels, hidden_size, n_directions, shared_x, seed
):
    M, N, D = 2, len(lengths), n_directions
    x = draw(1 if shared_x else M, N, 5, n_channels, seed=seed)
    for row, length in enumerate(lengths):
        x[:, row, length:] = torch.nan
    weights = layer(n_channels, hidden_size, n_models=M, n_directions=D, seed=seed)
    of_states = states(M, N, D, hidden_size, seed=seed)
    hidden, h_n, c_n = ops.lstm(
        x, *weights, lengths=torch.tensor(lengths), precision="bfloat16", **of_states
    )
    for model in range(M):
        own_x = x[0 if shared_x else model]
        for row, length in enumerate(lengths):
            assert not hidden[model, row, length:].any()
            for direction in range(D):
                own = [weight[model, direction][None, None] for weight in weights]
                h, c, mask = (
                    value[model, row, direction][None, None, None] for value in of_states.values()
                )
                steps = range(length) if direction == 0 else reversed(range(length))
                for t in steps:
                    _, h, c = ops.lstm(
                        own_x[None, row : row + 1, t : t + 1],
                        *own,
                        h_0=h,
                        c_0=c,
                        recurrent_mask=mask,
                        precision="bfloat16",
                    )
                    whole = hidden[model, row, t].view(D, hidden_size)[direction]
                    assert_same_bits([whole], [h[0, 0, 0]])
                assert_same_bits([h_n[model, row, direction]], [h[0, 0, 0]])
                assert_same_bits([c_n[model, row, direction]], [c[0, 0, 0]])


@needs_bfloat16
@given(
    n_windows=st.integers(0, 13),
    n_timesteps=st.sampled_from([0, 1, 20]),
    hidden_size=SIZES,
    n_directions=st.sampled_from([1, 2]),
    pooling=st.sampled_from(ops.POOLINGS),
    seed=st.integers(0, 100),
)
def test_the_logits_are_those_of_the_pooled_hidden_sequence_in_float32(
    n_windows, n_timesteps, hidden_size, n_directions, pooling, seed
):
    N, T, D = n_windows, n_timesteps, n_directions
    x, weights = draw(1, N, T, 3, seed=seed), layer(3, hidden_size, n_directions=D, seed=seed)
    width = ops.pooled_size(pooling, hidden_size, D)
    head = [draw(1, 4, width, seed=seed) / width**0.5, draw(1, 4, seed=seed)]
    lengths = torch.randint(0, T + 1, (N,), generator=torch.Generator().manual_seed(seed))
    arguments = {"lengths": lengths, "precision": "bfloat16"}
    arguments |= states(1, N, D, hidden_size, seed=seed)
    logits, *ours = ops.lstm_linear(x, *weights, *head, pooling=pooling, **arguments)
    hidden, *theirs = ops.lstm(x, *weights, **arguments)
    assert_same_bits(ours, theirs)
    pooled = reference.pool(hidden, theirs[0], lengths, pooling)
    torch.testing.assert_close(logits, pooled @ head[0].mT + head[1][:, None], rtol=1e-5, atol=1e-5)


@needs_bfloat16
@pytest.mark.parametrize("pooling", ops.POOLINGS)
@pytest.mark.parametrize(
    "shape",
    [(7, 40, 3, 17), (2, 100, 1, 64), (13, 60, 6, 128)],
    ids=lambda s: "x".join(map(str, s)),
)
def test_the_error_is_bfloat16s_and_does_not_grow_out_of_it(shape, pooling):
    N, T, C, H = shape
    width = ops.pooled_size(pooling, H, 2)
    errors = []
    for seed in range(4):
        x, weights = draw(1, N, T, C, seed=seed), layer(C, H, n_directions=2, seed=seed)
        head = [draw(1, 5, width, seed=seed) / width**0.5, torch.zeros(1, 5)]
        ours = ops.lstm_linear(x, *weights, *head, pooling=pooling, precision="bfloat16")
        exact = reference.lstm_linear(
            x.double(), None, *(t.double() for t in (*weights, *head)), pooling=pooling
        )
        errors.append(float((ours[0] - exact[0]).norm() / exact[0].norm()))
    # one rounding is 2^-9 = 0.002; float32 would be below 1e-6
    assert max(errors) < 0.005
    assert min(errors) > 1e-4


@needs_bfloat16
def test_the_bits_are_the_same_on_one_thread_and_on_several():
    x, weights = draw(1, 40, 30, 3, seed=0), layer(3, 65, n_directions=2)
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            results.append(ops.lstm(x, *weights, precision="bfloat16"))
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*results)


@needs_bfloat16
def test_a_nan_reaches_its_own_row_and_no_other():
    x = draw(1, 8, 20, 3, seed=0)
    x[0, 3, 5, 1] = torch.nan
    _, h_n, _ = ops.lstm(x, *layer(3, 17), precision="bfloat16")
    assert h_n[0, 3].isnan().all()
    assert not h_n[0, [0, 1, 2, 4, 5, 6, 7]].isnan().any()


@needs_bfloat16
def test_both_ops_pass_torchs_own_op_check():
    x, weights = draw(1, 3, 4, 2, seed=0), layer(2, 5)
    head = [draw(1, 3, 5, seed=1), draw(1, 3, seed=2)]
    nothing = (None, None, None)
    op = torch.ops.sensorseq.lstm.default
    torch.library.opcheck(op, (x, None, *weights, *nothing, False, True))
    op = torch.ops.sensorseq.lstm_linear.default
    torch.library.opcheck(op, (x, None, *weights, *head, *nothing, "mean", False, True))


# Asked for and not to be had: an error, never another precision


@pytest.mark.parametrize("isa", [name for name in _extension.cpu_isas() if name != "avx512"])
@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
def test_an_instruction_set_without_bfloat16_refuses_it(isa, op, monkeypatch):
    monkeypatch.setenv("SENSORSEQ_CPU_ISA", isa)
    head = [draw(1, 3, 5, seed=1), draw(1, 3, seed=2)] if op == "lstm_linear" else []
    arguments = (draw(1, 3, 4, 2, seed=0), *layer(2, 5), *head)
    assert not _extension.has_bfloat16()
    with pytest.raises(RuntimeError, match=r"AVX512_BF16.*precision must be 'float32'"):
        getattr(ops, op)(*arguments, precision="bfloat16")
    getattr(ops, op)(*arguments, precision="float32")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_refuses_it(dtype):
    arguments = [t.to(dtype) for t in (draw(1, 3, 4, 2, seed=0), *layer(2, 5))]
    with pytest.raises(ArgumentError, match=r"x is .*float.* on cpu\. Use precision='float32'"):
        ops.lstm(*arguments, precision="bfloat16")


def test_a_wanted_gradient_refuses_it_and_no_grad_is_the_way_out():
    x, weights = draw(1, 3, 4, 2, seed=0).requires_grad_(), layer(2, 5)
    with pytest.raises(ArgumentError, match=r"no backward pass.*torch\.no_grad"):
        ops.lstm(x, *weights, precision="bfloat16")
    if _extension.has_bfloat16():
        with torch.no_grad():
            ops.lstm(x, *weights, precision="bfloat16")


def test_the_raw_op_refuses_it_where_state_is_kept_and_in_double_precision():
    x, weights = draw(1, 3, 4, 2, seed=0), layer(2, 5)
    nothing = (None, None, None)
    with pytest.raises(RuntimeError, match="'bfloat16' serves float32 at inference"):
        torch.ops.sensorseq.lstm(x, None, *weights, *nothing, True, True)
    doubles = [weight.double() for weight in weights]
    with pytest.raises(RuntimeError, match="'bfloat16' serves float32 at inference"):
        torch.ops.sensorseq.lstm(x.double(), None, *doubles, *nothing, False, True)


def test_the_backward_op_refuses_it():
    x, weights = draw(1, 3, 4, 2, seed=0), layer(2, 5)
    layer_call = (x, None, *weights, None, None, None)
    hidden, _, _, saved = torch.ops.sensorseq.lstm(*layer_call, True)
    call = (hidden, None, None, *layer_call, saved, True)
    torch.ops.sensorseq.lstm_backward(*call, False)
    with pytest.raises(RuntimeError, match="'bfloat16' serves float32 at inference"):
        torch.ops.sensorseq.lstm_backward(*call, True)


def test_an_unknown_precision_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="Known: float32, bfloat16"):
        ops.lstm(draw(1, 3, 4, 2, seed=0), *layer(2, 5), precision="bf16")
    with pytest.raises(ArgumentError, match="Known: float32, bfloat16"):
        LSTMLinear(2, 5, 3, inference_precision="half")


# The module


@needs_bfloat16
@pytest.mark.parametrize("head_norm", ["none", "batch"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_module_rounds_every_layer_in_eval_mode_and_none_in_training(head_norm, num_layers):
    module = LSTMLinear(3, 9, 4, num_layers, head_norm=head_norm, inference_precision="bfloat16")
    x = torch.randn(5, 12, 3)
    outputs = {}
    for precision in ops.PRECISIONS:
        module.inference_precision = precision
        with torch.no_grad():
            outputs[precision] = module.eval()(x, return_state=True)
        outputs[precision, "training"] = module.train()(x)
    (logits, states_), (exact, exact_states) = outputs["bfloat16"], outputs["float32"]
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.02)
    for state, exact_state in zip(states_, exact_states, strict=True):
        differs = (state != exact_state).flatten(1).any(1)
        assert differs.all(), "a layer was not rounded"
    assert_same_bits([outputs["bfloat16", "training"]], [outputs["float32", "training"]])
    module.inference_precision = "bfloat16"
    with pytest.raises(ArgumentError, match=r"torch\.no_grad"):
        module.eval()(x)


@needs_bfloat16
def test_the_loss_in_eval_mode_is_that_of_the_rounded_logits():
    module = LSTMLinear(3, 9, 4, inference_precision="bfloat16").eval()
    x, y = torch.randn(5, 12, 3), torch.arange(5) % 4
    with torch.no_grad():
        logits = module(x)
        torch.testing.assert_close(
            module.loss(x, y), torch.nn.functional.cross_entropy(logits, y), rtol=0, atol=1e-6
        )
        assert_same_bits([module.loss(x, y, return_logits=True)[1]], [logits])
    with pytest.raises(ArgumentError, match=r"torch\.no_grad"):
        module.loss(x, y)


@needs_bfloat16
def test_traced_without_graph_breaks_the_module_gives_the_same_bits():
    module = LSTMLinear(3, 8, 4, pooling="meanmax", inference_precision="bfloat16").eval()
    traced = torch.compile(module, fullgraph=True, backend="eager")
    x = torch.randn(5, 12, 3)
    with torch.no_grad():
        assert_same_bits([traced(x)], [module(x)])
