"""The native ops equal the reference and keep their laws, on every instruction set."""

import time

import layer_laws
import pytest
import torch
from budget import assert_within_budget
from hypothesis import given
from hypothesis import strategies as st
from isas import ISAS, using_isa
from layer_laws import assert_same_bits
from threads import torch_threads

from sensorseq import ops
from sensorseq.errors import ArgumentError
from sensorseq.ops import _extension, reference

LANES = {"baseline": 4, "avx2": 8, "avx512": 16, "neon": 4}
# sizes around the numbers of lanes of every instruction set, in float and in double
HIDDEN_SIZES = sorted({size for v in (2, 4, 8, 16) for size in (1, v - 1, v, v + 1, 2 * v + 3)})
TILE = 6  # number of windows that are computed together


class Problem:
    """Random arguments of lstm_linear, drawn from one seed."""

    def __init__(
        self,
        n_windows,
        n_timesteps,
        n_channels,
        hidden_size,
        *,
        n_directions=1,
        n_models=1,
        shared_x=True,
        n_classes=3,
        pooling="last",
        lengths=None,
        states=True,
        mask=False,
        seed=0,
        scale=0.4,
    ):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        M, N, T = n_models, n_windows, n_timesteps
        C, H, D = n_channels, hidden_size, n_directions
        self.pooling = pooling
        self.x = draw(1 if shared_x else M, N, T, C)
        of_x, of_h, bias = (scale * draw(M, D, 4 * H, *size) for size in ((C,), (H,), ()))
        self.weights = [of_x, of_h / H**0.5, bias]
        width = ops.pooled_size(pooling, H, D)
        self.head = [draw(M, n_classes, width) / width**0.5, draw(M, n_classes)]
        self.states = [draw(M, N, D, H), draw(M, N, D, H)] if states else [None, None]
        self.mask = (draw(M, N, D, H) > -0.5).double() / 0.7 if mask else None
        self.lengths = {
            None: None,
            "zero": torch.zeros(N, dtype=torch.int64),
            "full": torch.full((N,), T),
            "mixed": torch.randint(0, T + 1, (N,), generator=generator),
        }[lengths]
        self.gradients = [draw(M, N, n_classes), draw(M, N, D, H), draw(M, N, D, H)]
        self.grad_hidden = draw(M, N, T, D * H)

    def cast(self, dtype):
        tensors = [self.x, *self.weights, *self.head, *self.states]
        return [None if t is None else t.to(dtype).requires_grad_() for t in tensors]

    def run(self, dtype, kind, head=True):
        """Return outputs and gradients of the native op, the reference or torch."""
        x, w_ih, w_hh, bias, w_out, b_out, h_0, c_0 = leaves = self.cast(dtype)
        mask = None if self.mask is None else self.mask.to(dtype)
        states = {"lengths": self.lengths, "h_0": h_0, "c_0": c_0, "recurrent_mask": mask}
        module = {"native": ops, "reference": reference, "torch": layer_laws}[kind]
        names = {"torch": ["framework_lstm_linear"]}.get(kind, ["lstm", "lstm_linear"])
        function = getattr(module, names[-1 if head else 0])
        of_head = {"weight_out": w_out, "bias_out": b_out, "pooling": self.pooling}
        arguments = of_head if head else {}
        outputs = function(x=x, weight_ih=w_ih, weight_hh=w_hh, bias=bias, **arguments, **states)
        of = [self.gradients[0] if head else self.grad_hidden, *self.gradients[1:]]
        # with no timesteps, the reference's outputs depend on no argument
        reached = [(o, g.to(dtype)) for o, g in zip(outputs, of, strict=True) if o.requires_grad]
        if reached:
            torch.autograd.backward(*map(list, zip(*reached, strict=True)))
        used = [*leaves[:4], *(leaves[4:6] if head else []), *leaves[6:]]
        used = [leaf for leaf in used if leaf is not None]
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in used]
        return [*(o.detach() for o in outputs), *grads]


def test_the_forced_instruction_set_is_used(isa):
    assert _extension.cpu_isa() == isa


def test_an_unknown_instruction_set_is_an_error_that_lists_the_known_ones():
    for call in (lambda: Problem(1, 2, 1, 3).run(torch.float32, "native"), _extension.cpu_isa):
        with using_isa("haswell"), pytest.raises(RuntimeError, match=r"Known: .*baseline"):
            call()


def test_an_instruction_set_of_a_different_processor_is_not_called_unknown():
    elsewhere = next(name for name in LANES if name not in ISAS)
    sentence = r"this processor lacks\. Known: .*baseline"
    with using_isa(elsewhere), pytest.raises(RuntimeError, match=sentence):
        _extension.cpu_isa()


@given(
    isa=st.sampled_from(ISAS),
    n_windows=st.sampled_from([0, 1, TILE - 1, TILE, TILE + 1, 8 * TILE + 1]),
    # with 41 steps and tiles of 5 or more rows, the backward pass has a second block of steps
    n_timesteps=st.sampled_from([0, 1, 2, 41]),
    n_channels=st.sampled_from([1, 2, 17]),
    hidden_size=st.sampled_from(HIDDEN_SIZES),
    n_directions=st.sampled_from([1, 2]),
    models=st.sampled_from([(1, True), (2, True), (2, False)]),
    pooling=st.sampled_from(ops.POOLINGS),
    lengths=st.sampled_from([None, "zero", "full", "mixed"]),
    states=st.booleans(),
    mask=st.booleans(),
    head=st.booleans(),
    seed=st.integers(0, 100),
)
def test_in_double_precision_outputs_and_gradients_are_the_references(
    isa, models, head, n_windows, n_timesteps, n_channels, hidden_size, **options
):
    options |= {"n_models": models[0], "shared_x": models[1]}
    problem = Problem(n_windows, n_timesteps, n_channels, hidden_size, **options)
    with using_isa(isa):
        ours = problem.run(torch.float64, "native", head)
    theirs = problem.run(torch.float64, "reference", head)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("pooling", ops.POOLINGS)
@pytest.mark.parametrize(("n_windows", "n_classes"), [(0, 3), (3, 0)])
def test_without_windows_or_classes_gradients_are_the_references(
    isa, n_windows, n_classes, pooling
):
    problem = Problem(n_windows, 4, 2, 5, n_classes=n_classes, pooling=pooling)
    ours, theirs = (problem.run(torch.float64, kind) for kind in ("native", "reference"))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("n_directions", "pooling"), [(1, "last"), (2, "mean")])
@pytest.mark.parametrize(
    "shape", [(7, 40, 3, 17), (1, 60, 1, 32), (13, 25, 1, 64)], ids=lambda s: "x".join(map(str, s))
)
def test_in_single_precision_the_error_is_within_the_budget(isa, shape, n_directions, pooling):
    runs = []
    for seed in range(16):
        problem = Problem(*shape, n_directions=n_directions, pooling=pooling, seed=seed)
        ours, theirs = (problem.run(torch.float32, kind) for kind in ("native", "torch"))
        exact = problem.run(torch.float64, "torch")  # torch is ten times as fast as the reference
        runs.append(list(zip(ours, theirs, exact, strict=True)))
    for pairs in zip(*runs, strict=True):
        assert_within_budget(pairs)


# Guarantees that hold bit for bit

EDGES = {
    "n_timesteps": st.sampled_from([1, 7, 40]),
    "n_channels": st.sampled_from([1, 3]),
    "hidden_size": st.sampled_from([1, 8, 17, 33]),
    "n_directions": st.sampled_from([1, 2]),
    "pooling": st.sampled_from(ops.POOLINGS),
    "isa": st.sampled_from(ISAS),
    "seed": st.integers(0, 100),
}


def native(problem, rows=slice(None), model=slice(None), dtype=torch.float32, **changes):
    """Compute lstm_linear on some rows and models of a problem, without gradients."""
    x, w_ih, w_hh, bias, w_out, b_out, h_0, c_0 = problem.cast(dtype)
    shared = x.shape[0] == 1
    arguments = {
        "x": x[:, rows] if shared else x[model, rows],
        "weight_ih": w_ih[model],
        "weight_hh": w_hh[model],
        "bias": bias[model],
        "weight_out": w_out[model],
        "bias_out": b_out[model],
        "pooling": problem.pooling,
        "lengths": None if problem.lengths is None else problem.lengths[rows],
        "h_0": None if h_0 is None else h_0[model, rows],
        "c_0": None if c_0 is None else c_0[model, rows],
    }
    with torch.no_grad():
        return ops.lstm_linear(**{**arguments, **changes})


@given(n_windows=st.integers(2, 14), data=st.data(), **EDGES)
def test_a_row_has_the_same_bits_in_any_batch(isa, n_windows, data, **options):
    with using_isa(isa):
        problem = Problem(n_windows, lengths="mixed", **options)
        row = data.draw(st.integers(0, n_windows - 1))
        whole = native(problem)
        alone = native(problem, rows=slice(row, row + 1))
        assert_same_bits([w[:, row : row + 1] for w in whole], alone)


@given(n_windows=st.integers(1, 14), shared_x=st.booleans(), **EDGES)
def test_a_model_has_the_same_bits_alongside_others(isa, n_windows, shared_x, **options):
    with using_isa(isa):
        problem = Problem(n_windows, n_models=3, shared_x=shared_x, **options)
        whole = native(problem)
        for model in range(3):
            alone = native(problem, model=slice(model, model + 1))
            assert_same_bits([w[model : model + 1] for w in whole], alone)


@given(data=st.data(), n_timesteps=st.integers(2, 40), isa=st.sampled_from(ISAS))
def test_chunks_in_time_give_the_bits_of_the_whole(isa, data, n_timesteps):
    with using_isa(isa):
        problem = Problem(5, n_timesteps, 2, 19)
        cut = data.draw(st.integers(0, n_timesteps))
        x = problem.cast(torch.float32)[0]
        whole = native(problem)
        _, h, c = native(problem, x=x[:, :, :cut])
        second = native(problem, x=x[:, :, cut:], h_0=h, c_0=c)
        # without valid steps, the pooled vector is zero by contract
        whole, second = (whole[1:], second[-2:]) if cut == n_timesteps else (whole, second)
        assert_same_bits(whole, second)


@given(n_windows=st.integers(1, 14), **EDGES)
def test_steps_beyond_the_lengths_change_no_bit(isa, n_windows, **options):
    with using_isa(isa):
        problem = Problem(n_windows, lengths="mixed", **options)
        x = problem.cast(torch.float32)[0].detach().clone()
        for row, length in enumerate(problem.lengths.tolist()):
            x[:, row, length:] = torch.nan
        assert_same_bits(native(problem), native(problem, x=x))


@pytest.mark.parametrize("n_windows", [1, TILE, 3 * TILE + 1, 20 * TILE])
def test_gradients_have_the_same_bits_on_one_thread_and_on_several(isa, n_windows):
    problem = Problem(n_windows, 50, 3, 33, n_directions=2, pooling="meanmax", lengths="mixed")
    with torch_threads(1):
        single = problem.run(torch.float32, "native")
    with torch_threads(3):
        several = problem.run(torch.float32, "native")
    assert_same_bits(single, several)


def test_training_and_inference_have_the_same_bits(isa):
    problem = Problem(7, 30, 2, 33, n_directions=2, lengths="mixed", pooling="meanmax")
    trained = problem.run(torch.float32, "native")[:3]
    assert_same_bits(trained, native(problem))


def test_inference_keeps_no_state():
    problem = Problem(3, 50, 1, 16)
    x, *weights, _, _ = problem.cast(torch.float32)
    options = None, None, None, "last", False
    assert torch.ops.sensorseq.lstm_linear(x, None, *weights[:5], *options)[-1].numel() == 0


def test_a_nan_in_the_input_reaches_its_own_row_and_no_other():
    problem = Problem(8, 20, 2, 17, pooling="max")
    x = problem.cast(torch.float32)[0].detach().clone()
    x[0, 3, 5, 1] = torch.nan
    logits, _, _ = native(problem, x=x)
    assert logits[0, 3].isnan().all()
    assert not logits[0, [0, 1, 2, 4, 5, 6, 7]].isnan().any()


def test_with_max_pooling_a_nan_reaches_the_gradients_of_its_own_row_and_no_other(isa):
    problem = Problem(8, 20, 2, 17, pooling="max")
    problem.x[0, 3, 5, 1] = torch.nan
    grad_x = problem.run(torch.float32, "native")[3]
    assert grad_x[0, 3].isnan().all()
    assert not grad_x[0, [0, 1, 2, 4, 5, 6, 7]].isnan().any()


# Corner cases of the gradient


def test_the_gradients_of_no_windows_at_all_are_zero_whatever_the_memory_held(isa):
    problem = Problem(0, 2, 2, 8, n_models=2, states=False)
    for _ in range(20):
        used_before = [torch.full((2, 3, 8), torch.nan) for _ in range(8)]
        del used_before
        assert not any(gradient.any() for gradient in problem.run(torch.float32, "native")[3:])


@pytest.mark.parametrize("kernel", [ops, reference], ids=["native", "reference"])
@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize("pooling", ["max", "meanmax"])
def test_of_equal_maxima_the_earliest_step_gets_the_gradient(isa, kernel, n_directions, pooling):
    D, H = n_directions, 5
    x = torch.ones(1, 2, 6, 2, dtype=torch.float64, requires_grad=True)
    weight_ih, bias = (torch.randn(1, D, 4 * H, 2) / 2).double(), torch.zeros(1, D, 4 * H).double()
    weight_ih[:, :, H : 2 * H] = 0
    bias[..., H : 2 * H] = -200  # no state is kept, so every step has the same h
    weight_out = torch.randn(1, 3, ops.pooled_size(pooling, H, D), dtype=torch.float64)
    if pooling == "meanmax":
        weight_out[..., : D * H] = 0  # the gradient of the mean goes to every step
    logits, _, _ = kernel.lstm_linear(
        x=x,
        lengths=None,
        weight_ih=weight_ih,
        weight_hh=torch.zeros(1, D, 4 * H, H, dtype=torch.float64),
        bias=bias,
        weight_out=weight_out,
        bias_out=torch.zeros(1, 3, dtype=torch.float64),
        pooling=pooling,
    )
    logits.sum().backward()
    assert (x.grad[:, :, 0].abs() > 1e-6).all()
    assert (x.grad[:, :, 1:].abs() < 1e-60).all()


def test_a_closed_output_gate_has_gradients_of_zero(isa):
    problem = Problem(2, 4, 2, 3)
    problem.weights[2][..., 9:] = -800  # the output gate becomes exactly 0
    problem.gradients[1:] = [torch.zeros_like(g) for g in problem.gradients[1:]]
    hidden, h_n, _, *grads = problem.run(torch.float64, "native", head=False)
    for zero in (hidden, h_n, *grads):
        assert (zero == 0).all()


# Bad arguments


def test_an_unknown_pooling_names_the_nearest():
    with pytest.raises(ArgumentError, match="meanmax"):
        native(Problem(1, 2, 1, 3), pooling="mean_max")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight_ih", torch.zeros(1, 1, 12, 5), r"weight_ih has shape \(1, 1, 12, 5\); expected"),
        ("weight_out", torch.zeros(1, 3, 9), r"weight_out has shape"),
        ("h_0", torch.zeros(1, 2, 1, 3), r"h_0 has shape \(1, 2, 1, 3\); expected \(1, 4, 1, 3\)"),
        ("bias", torch.zeros(1, 1, 12, dtype=torch.float64), "bias has another dtype"),
        ("lengths", torch.tensor([0, 1, 2, 9]), r"outside 0\.\.n_timesteps"),
        ("lengths", torch.tensor([0, 1, 2, -1]), r"outside 0\.\.n_timesteps"),
        ("lengths", torch.tensor([0.0, 1, 2, 1]), "lengths has another dtype"),
        ("x", torch.zeros(2, 4, 6, 2), "x holds 2 models"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(name, value, message):
    with pytest.raises(RuntimeError, match=message):
        native(Problem(4, 6, 2, 3), **{name: value})


def test_the_multiply_adds_of_the_peak_are_done_and_counted(isa):
    count = torch.ops.sensorseq.multiply_add_flops
    turn = count(1)
    assert turn % (2 * LANES[isa]) == 0
    assert (count(0), count(7), count(7, 3)) == (0, 7 * turn, 21 * turn)
    started = time.perf_counter()
    flops = count(1_000_000)
    # no core reaches 2 TFLOP/s in float32; a loop removed by the compiler would exceed it
    assert flops / (time.perf_counter() - started) < 2e12
    with pytest.raises(RuntimeError, match="repeats is -1"):
        count(-1)


def test_saved_state_reuses_the_memory_of_the_previous_step():
    problem = Problem(8, 30, 2, 32)
    x, w_ih, w_hh, bias, *_ = problem.cast(torch.float32)

    def saved_state():
        with torch.no_grad():
            return torch.ops.sensorseq.lstm(x, None, w_ih, w_hh, bias, None, None, None, True)[3]

    first, second = saved_state(), saved_state()
    assert first.data_ptr() != second.data_ptr()
    kept, place = second.clone(), first.data_ptr()
    del first
    third = saved_state()
    assert third.data_ptr() == place
    torch.testing.assert_close(third, kept, rtol=0, atol=0)
