"""lstm_linear_loss equals the forward pass and torch's own loss, and keeps its guarantees."""

import pytest
import torch
from budget import assert_within_budget
from hypothesis import given
from hypothesis import strategies as st
from isas import ISAS, using_isa
from layer_laws import assert_same_bits, framework_lstm_linear
from op_calls import OpCalls
from threads import torch_threads
from torch.nn import functional

from sensorseq import ops
from sensorseq.errors import ArgumentError
from sensorseq.ops import reference

TILE = 6  # number of windows that are computed together
K = 4
WEIGHTS = ("weight_ih", "weight_hh", "bias", "weight_out", "bias_out")
DIFFERENTIABLE = ("x", *WEIGHTS, "h_0", "c_0")
SEVERAL = {"n_models": 2, "n_directions": 2, "pooling": "meanmax"}
TENSORS = ("x", "lengths", "class_index", "sample_weight", *WEIGHTS, "h_0", "c_0", "recurrent_mask")


def draw_arguments(
    n_windows,
    n_timesteps,
    hidden_size,
    *,
    n_channels=2,
    n_directions=1,
    n_models=1,
    shared=True,
    pooling="last",
    lengths=False,
    states=True,
    weighted=True,
    mask=False,
    seed=0,
):
    """Random arguments in double precision, some of which the models may share."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    M, N, T, C, H, D = n_models, n_windows, n_timesteps, n_channels, hidden_size, n_directions
    n_shared = 1 if shared else M
    width = ops.pooled_size(pooling, H, D)
    state = (M, N, D, H)
    return {
        "x": draw(n_shared, N, T, C),
        "class_index": torch.randint(0, K, (n_shared, N), generator=generator),
        "weight_ih": draw(M, D, 4 * H, C) / 2,
        "weight_hh": draw(M, D, 4 * H, H) / 2 / H**0.5,
        "bias": draw(M, D, 4 * H) / 2,
        "weight_out": draw(M, K, width) / width**0.5,
        "bias_out": draw(M, K),
        "lengths": torch.randint(0, T + 1, (N,), generator=generator) if lengths else None,
        "sample_weight": draw(n_shared, N).abs() if weighted else None,
        "h_0": draw(*state) if states else None,
        "c_0": draw(*state) if states else None,
        "recurrent_mask": (draw(*state) > -0.5).double() / 0.7 if mask else None,
        "pooling": pooling,
    }


def leaves_of(arguments, dtype):
    """Cast the arguments to a precision, and require gradients of differentiable tensors."""
    return {
        name: value.detach().to(dtype, copy=True).requires_grad_(name in DIFFERENTIABLE)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in arguments.items()
    }


def gradients(leaves):
    of = [leaves[name] for name in DIFFERENTIABLE if leaves[name] is not None]
    return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in of]


def torch_losses(logits, class_index, loss, smoothing):
    """The loss of each window, from torch.nn.functional or from its definition."""
    if loss == "cross_entropy":
        how = {"reduction": "none", "label_smoothing": smoothing}
        return functional.cross_entropy(logits, class_index, **how)
    p = logits.softmax(1)
    target = torch.full_like(p, smoothing / logits.shape[1])
    target[torch.arange(len(p)), class_index] += 1 - smoothing
    return -(target * (1 - p) ** 2 * p.log()).sum(1)


def plain(arguments, loss, smoothing, dtype=torch.float64, lstm_linear=reference.lstm_linear):
    """Mean losses, logits and leaves from a separate, unfused forward pass and loss."""
    a = leaves_of(arguments, dtype)
    class_index, weight = a.pop("class_index"), a.pop("sample_weight")
    logits, _, _ = lstm_linear(**a)
    n_models, n_windows = logits.shape[:2]
    of_models = zip(logits, class_index.expand(n_models, n_windows), strict=True)
    losses = torch.stack([torch_losses(*of_model, loss, smoothing) for of_model in of_models])
    return (losses if weight is None else losses * weight).mean(1), logits, a


def fused(arguments, loss="cross_entropy", smoothing=0.0, dtype=torch.float64):
    a = leaves_of(arguments, dtype)
    return *ops.lstm_linear_loss(**a, loss=loss, label_smoothing=smoothing), a


def differentiated(mean_loss, logits, leaves):
    """Mean losses, logits, and all gradients of the sum of the mean losses."""
    mean_loss.sum().backward()
    return [mean_loss.detach(), logits.detach(), *gradients(leaves)]


def run(arguments, dtype=torch.float32):
    return differentiated(*fused(arguments, dtype=dtype))


@given(
    isa=st.sampled_from(ISAS),
    n_windows=st.sampled_from([1, TILE, TILE + 1, 8 * TILE + 1]),
    n_timesteps=st.sampled_from([0, 1, 13]),
    hidden_size=st.sampled_from([1, 7, 17]),
    n_directions=st.sampled_from([1, 2]),
    models=st.sampled_from([(1, True), (2, True), (2, False)]),
    pooling=st.sampled_from(ops.POOLINGS),
    lengths=st.booleans(),
    states=st.booleans(),
    weighted=st.booleans(),
    mask=st.booleans(),
    loss=st.sampled_from(ops.LOSSES),
    smoothing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 100),
)
def test_loss_logits_and_gradients_are_those_of_the_forward_pass_and_torchs_loss(
    isa, n_windows, n_timesteps, hidden_size, models, loss, smoothing, **options
):
    options |= {"n_models": models[0], "shared": models[1]}
    arguments = draw_arguments(n_windows, n_timesteps, hidden_size, **options)
    with using_isa(isa):
        ours = fused(arguments, loss, smoothing)
        theirs = plain(arguments, loss, smoothing)
        of_models = torch.arange(1.0, 1 + models[0], dtype=torch.float64)
        for mean_loss, _, _ in (ours, theirs):
            (mean_loss * of_models).sum().backward()
    sides = ([*results, *gradients(leaves)] for *results, leaves in (ours, theirs))
    torch.testing.assert_close(*sides, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n_directions", "pooling"), [(1, "last"), (2, "mean")])
def test_in_single_precision_the_error_is_within_the_budget(isa, n_directions, pooling):
    runs = []
    for seed in range(16):
        options = {"n_channels": 3, "n_directions": n_directions, "pooling": pooling}
        arguments = draw_arguments(13, 40, 17, **options, seed=seed)
        exact, torchs = (
            differentiated(*plain(arguments, "cross_entropy", 0.0, dtype, framework_lstm_linear))
            for dtype in (torch.float64, torch.float32)
        )
        runs.append(list(zip(run(arguments), torchs, exact, strict=True)))
    for pairs in zip(*runs, strict=True):
        assert_within_budget(pairs)


# Guarantees that hold bit for bit


@pytest.mark.parametrize("n_windows", [1, TILE, 3 * TILE + 1, 20 * TILE])
def test_everything_has_the_same_bits_on_one_thread_and_on_several(isa, n_windows):
    arguments = draw_arguments(n_windows, 50, 33, **SEVERAL, lengths=True)
    with torch_threads(1):
        first = run(arguments)
    with torch_threads(3):
        several = run(arguments)
    assert_same_bits(first, several)


@pytest.mark.parametrize("loss", ops.LOSSES)
def test_with_and_without_gradients_the_bits_are_those_of_the_forward_pass(isa, loss):
    arguments = draw_arguments(23, 30, 19, **SEVERAL, lengths=True)
    trained = fused(arguments, loss, 0.1, torch.float32)
    with torch.no_grad():
        inferred = fused(arguments, loss, 0.1, torch.float32)
        forward = leaves_of(arguments, torch.float32)
        del forward["class_index"], forward["sample_weight"]
        logits, _, _ = ops.lstm_linear(**forward)
    assert_same_bits([t.detach() for t in trained[:2]], inferred[:2])
    assert_same_bits([trained[1]], [logits])


@given(isa=st.sampled_from(ISAS), n_windows=st.integers(2, 14), data=st.data())
def test_a_row_has_the_same_logits_in_any_batch(isa, n_windows, data):
    with using_isa(isa):
        arguments = draw_arguments(n_windows, 9, 17, n_directions=2, lengths=True)
        row = data.draw(st.integers(0, n_windows - 1))
        of_rows = {"x", "class_index", "sample_weight", "h_0", "c_0"}
        alone = {
            name: value[:, row : row + 1] if name in of_rows else value
            for name, value in arguments.items()
        } | {"lengths": arguments["lengths"][row : row + 1]}
        whole = run(arguments)[1][:, row : row + 1]
        assert_same_bits([whole], [run(alone)[1]])


def test_a_model_has_the_same_bits_alongside_others(isa):
    arguments = draw_arguments(15, 12, 17, n_models=3, shared=False, n_directions=2)
    whole = run(arguments)
    for model in range(3):
        alone = {
            name: value[model : model + 1] if isinstance(value, torch.Tensor) else value
            for name, value in arguments.items()
        }
        assert_same_bits([w[model : model + 1] for w in whole], run(alone))


def test_steps_beyond_the_lengths_change_no_bit(isa):
    arguments = draw_arguments(15, 12, 17, lengths=True, pooling="meanmax")
    dirty = arguments | {"x": arguments["x"].clone()}
    for row, length in enumerate(arguments["lengths"].tolist()):
        dirty["x"][:, row, length:] = torch.nan
    assert_same_bits(run(arguments), run(dirty))


# Autograd with gradients that were computed in advance


def test_the_gradient_of_a_multiple_is_the_multiple_of_the_gradient():
    arguments = draw_arguments(9, 8, 7)
    once = run(arguments)[2:]
    mean_loss, _, leaves = fused(arguments, dtype=torch.float32)
    (8 * mean_loss).backward()
    assert_same_bits(gradients(leaves), [8 * grad for grad in once])


def test_a_second_backward_pass_through_a_retained_graph_gives_the_same():
    mean_loss, _, leaves = fused(draw_arguments(9, 8, 7), dtype=torch.float32)
    mean_loss.backward(retain_graph=True)
    once = [grad.clone() for grad in gradients(leaves)]
    mean_loss.backward()
    assert_same_bits(gradients(leaves), [2 * grad for grad in once])
    with pytest.raises(RuntimeError, match="second time"):
        mean_loss.backward()


def test_the_loss_alone_is_differentiable():
    mean_loss, logits, leaves = fused(draw_arguments(9, 8, 7))
    assert mean_loss.requires_grad
    assert not logits.requires_grad
    leaves["sample_weight"].requires_grad_()
    mean_loss, _ = ops.lstm_linear_loss(**leaves)
    mean_loss.backward()
    assert leaves["sample_weight"].grad is None


def test_only_gradients_that_are_required_are_computed():
    arguments = leaves_of(draw_arguments(9, 8, 7), torch.float32)
    constant = {k: v.detach() if k in DIFFERENTIABLE else v for k, v in arguments.items()}
    with OpCalls("lstm_linear_loss") as seen:
        ops.lstm_linear_loss(**arguments)
        with torch.no_grad():
            ops.lstm_linear_loss(**arguments)
        ops.lstm_linear_loss(**constant)
        ops.lstm_linear_loss(**arguments | {"x": constant["x"]})
    needs = [args[-2:] for args in seen.calls["lstm_linear_loss"]]
    assert needs == [(True, True), (False, False), (False, False), (True, False)]


def test_a_raw_call_that_computes_no_gradients_has_none():
    a = leaves_of(draw_arguments(3, 4, 3), torch.float64)
    pooling = a.pop("pooling")
    options = (pooling, "cross_entropy", 0.0, False, False)
    with pytest.raises(ArgumentError, match="needs_grad=True"):
        torch.ops.sensorseq.lstm_linear_loss(*(a[name] for name in TENSORS), *options)


def test_first_and_second_derivatives_agree_with_finite_differences():
    arguments = draw_arguments(3, 4, 3, **SEVERAL, lengths=True)
    leaves = leaves_of(arguments, torch.float64)
    for loss in ops.LOSSES:

        def function(*values, loss=loss):
            changed = dict(zip(DIFFERENTIABLE, values, strict=True))
            return ops.lstm_linear_loss(**leaves | changed, loss=loss, label_smoothing=0.1)[0]

        inputs = [leaves[name] for name in DIFFERENTIABLE]
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_gradients_to_be_differentiated_are_the_same_gradients():
    arguments = draw_arguments(7, 5, 4, lengths=True, mask=True, pooling="max")
    mean_loss, _, leaves = fused(arguments)
    inputs = [leaves[name] for name in DIFFERENTIABLE]
    ready = torch.autograd.grad(mean_loss, inputs, retain_graph=True)
    with_graph = torch.autograd.grad(mean_loss, inputs, create_graph=True)
    for a, b in zip(ready, with_graph, strict=True):
        assert b.requires_grad
        torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-13)


def test_one_tensor_given_twice_gets_both_gradients():
    arguments = draw_arguments(5, 6, 3, n_channels=3)
    leaves = leaves_of(arguments, torch.float64)
    shared = leaves["weight_hh"]
    mean_loss, _ = ops.lstm_linear_loss(**leaves | {"weight_ih": shared})
    ready = torch.autograd.grad(mean_loss, shared, retain_graph=True)
    with_graph = torch.autograd.grad(mean_loss, shared, create_graph=True)
    torch.testing.assert_close(ready[0], with_graph[0].detach())


@pytest.mark.long
@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("states", [True, False])
def test_the_op_passes_torchs_own_op_check(requires_grad, states):
    arguments = draw_arguments(5, 4, 3, **SEVERAL, states=states, weighted=states)
    a = leaves_of(arguments, torch.float64)
    tensors = [a[name] for name in TENSORS]
    if not requires_grad:
        tensors = [None if t is None else t.detach() for t in tensors]
    options = ("meanmax", "focal", 0.1, requires_grad, requires_grad)
    op = torch.ops.sensorseq.lstm_linear_loss.default
    torch.library.opcheck(op, (*tensors, *options))


def test_under_autocast_the_raw_op_accepts_half_precision():
    arguments = draw_arguments(5, 6, 8)
    halves = {k: v.bfloat16() if k in DIFFERENTIABLE else v for k, v in arguments.items()}
    halves["sample_weight"] = halves["sample_weight"].bfloat16()
    singles = {k: v.float() for k, v in halves.items() if v is not None and k != "pooling"}
    singles = halves | singles | {"class_index": halves["class_index"]}
    options = ("last", "cross_entropy", 0.0, True, True)
    op = torch.ops.sensorseq.lstm_linear_loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = op(*(halves[name] for name in TENSORS), *options)
    assert ours[0].dtype == torch.float32
    assert_same_bits(ours, op(*(singles[name] for name in TENSORS), *options))


def test_calls_without_a_kernel_are_computed_by_the_reference():
    arguments = draw_arguments(5, 6, 8)
    half = leaves_of(arguments, torch.bfloat16)
    half["sample_weight"].requires_grad_()
    mean_loss, logits = ops.lstm_linear_loss(**half)
    assert mean_loss.dtype == torch.bfloat16
    assert not logits.requires_grad
    mean_loss.backward()
    assert half["sample_weight"].grad is None
    exact = run(arguments, torch.float64)
    torch.testing.assert_close(mean_loss.detach().double(), exact[0], rtol=0.1, atol=0.05)
    torch.testing.assert_close(half["bias_out"].grad.double(), exact[7], rtol=0.1, atol=0.05)


def test_a_batch_without_windows_has_no_mean_and_gradients_of_zero(isa):
    mean_loss, _, *grads = run(draw_arguments(0, 5, 7, n_directions=2))
    assert mean_loss.isnan().all()  # like torch.nn.functional.cross_entropy
    assert all((grad == 0).all() for grad in grads)


# Bad arguments


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("class_index", torch.tensor([[0, 1, 2, K]]), r"class_index holds a value outside 0\.\."),
        ("class_index", torch.tensor([[0, 1, 2, -100]]), "class_index holds a value outside"),
        ("class_index", torch.zeros(1, 3, dtype=torch.int64), r"class_index has shape \(1, 3\)"),
        ("class_index", torch.zeros(2, 4, dtype=torch.int64), "class_index holds 2 models"),
        ("class_index", torch.zeros(1, 4), "class_index has another dtype; expected int64"),
        ("sample_weight", torch.ones(1, 3), r"sample_weight has shape \(1, 3\); expected \(1, 4\)"),
        ("sample_weight", torch.ones(1, 4).double(), "sample_weight has another dtype"),
        ("lengths", torch.tensor([0, 1, 2, 9]), r"outside 0\.\.n_timesteps"),
        ("weight_out", torch.zeros(1, K, 9), "weight_out has shape"),
    ],
)
@pytest.mark.parametrize("needs_grad", [True, False])
def test_an_argument_that_does_not_fit_is_named(name, value, message, needs_grad):
    arguments = leaves_of(draw_arguments(4, 6, 3), torch.float32)
    with pytest.raises(RuntimeError, match=message), torch.set_grad_enabled(needs_grad):
        ops.lstm_linear_loss(**arguments | {name: value})


def test_an_unknown_loss_and_a_smoothing_out_of_range_are_named():
    arguments = draw_arguments(4, 6, 3)
    with pytest.raises(ArgumentError, match="Did you mean 'cross_entropy'"):
        ops.lstm_linear_loss(**arguments, loss="crossentropy")
    with pytest.raises(ArgumentError, match=r"label_smoothing=1\.0 must lie in \[0, 1\)"):
        ops.lstm_linear_loss(**arguments, label_smoothing=1.0)
