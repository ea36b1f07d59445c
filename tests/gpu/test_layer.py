"""The same functions check the layer's guarantees on the CPU and on the GPU."""

import itertools
import warnings

import layer_laws
import numpy as np
import pytest
import torch
from budget import assert_within_budget
from layer_laws import FACTORS, PRECISIONS, VARIANTS, Variant, pairs_of, torch_precision
from torch import nn

from sensorseq import ops
from sensorseq.nn import LSTMLinear
from sensorseq.ops import reference
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper, pack_batches

# torch runs larger layers, for which equal bits are not promised
HIDDEN_SIZES = (5, 50, 100, 223, 256)
# Only a few sizes run on the CPU, because the CPU's kernels have tests of their own.
CASES = [
    pytest.param((device, precision), variant, id=f"{variant}-{device}-{precision}")
    for index, variant in enumerate(VARIANTS)
    for device, precision in [("cpu", "float32"), *(("cuda", name) for name in PRECISIONS)]
    if device == "cuda" or (variant.hidden_size <= 128 and index % 12 == 0)
]


def test_the_variants_cover_all_pairs_of_values():
    seen = set().union(*map(pairs_of, VARIANTS))
    for (a, of_a), (b, of_b) in itertools.combinations(FACTORS.items(), 2):
        for pair in itertools.product(((a, v) for v in of_a), ((b, v) for v in of_b)):
            assert pair in seen
    assert {variant.hidden_size for variant in VARIANTS} >= {1, 32, 64, 128, 256, 512}


@pytest.mark.parametrize(("place", "variant"), CASES, indirect=["place"])
def test_the_error_is_within_the_budget(place, variant):
    device, precision = place
    layer_laws.check_error(device, variant, precision)


@pytest.mark.parametrize(("place", "variant"), CASES[::2], indirect=["place"])
def test_the_error_of_the_hidden_sequence_is_within_the_budget(place, variant):
    device, precision = place
    layer_laws.check_error(device, variant, precision, head=False)


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
@pytest.mark.parametrize("n_directions", [1, 2])
def test_equal_calls_give_equal_bits(place, hidden_size, n_directions):
    device, precision = place
    variant = Variant(hidden_size, 3, n_directions, 3, "meanmax", "mixed", True)
    layer_laws.check_same_bits_twice(device, variant, precision)


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
# with more channels, torch multiplies the input on a GPU
@pytest.mark.parametrize("n_channels", [3, 16])
def test_a_row_has_the_same_bits_in_any_batch(place, hidden_size, n_channels):
    device, precision = place
    variant = Variant(hidden_size, n_channels, 2, 1, "mean", "mixed", True)
    layer_laws.check_batch_invariance(device, variant, precision)


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_a_model_has_the_same_bits_alongside_others(place, hidden_size):
    device, precision = place
    variant = Variant(hidden_size, 6, 1, 3, "max", "mixed", True)
    layer_laws.check_model_invariance(device, variant, precision)


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_chunks_give_the_bits_of_the_whole(place, hidden_size):
    device, precision = place
    if precision in ("float16", "bfloat16"):
        pytest.skip("needs a GPU whose state is not rounded: in half precision it is, to a half")
    layer_laws.check_chunks(device, Variant(hidden_size, states=True), precision)


@pytest.mark.parametrize("pooling", ops.POOLINGS)
@pytest.mark.parametrize("hidden_size", [64, 256])
def test_steps_beyond_the_lengths_are_never_read(place, hidden_size, pooling):
    device, precision = place
    variant = Variant(hidden_size, 3, 2, 1, pooling, "mixed")
    layer_laws.check_beyond_lengths(device, variant, precision)


@pytest.mark.parametrize("hidden_size", [5, 128])
def test_arguments_need_not_be_dense(place, hidden_size):
    device, precision = place
    layer_laws.check_not_contiguous(device, Variant(hidden_size, lengths="mixed"), precision)


@pytest.mark.parametrize("n_windows", [0, 1, 7, 9])
@pytest.mark.parametrize("n_timesteps", [0, 1])
def test_empty_and_small_batches_equal_the_reference(device, n_windows, n_timesteps):
    variant = Variant(32, 3, 2, 2, "mean", None, True, False, n_windows, n_timesteps)
    problem = layer_laws.Problem(variant)
    with torch_precision("float32"):
        results = layer_laws.infer(problem, device, torch.float32)
        wanted = reference.lstm_linear(
            **problem.arguments("cpu", torch.float64, grad=False), pooling="mean"
        )
    for a, b in zip(results, wanted, strict=True):
        torch.testing.assert_close(a.cpu().double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head_norm", ["none", "layer"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_module_equals_itself_in_double_precision(device, bidirectional, head_norm):
    torch.manual_seed(1)
    module = LSTMLinear(6, 64, 5, 2, bidirectional, "meanmax", head_norm=head_norm)
    double = LSTMLinear(6, 64, 5, 2, bidirectional, "meanmax", head_norm=head_norm).double()
    double.load_state_dict(module.state_dict())
    x, y = torch.randn(20, 30, 6), torch.randint(0, 5, (20,))
    lengths = torch.randint(0, 31, (20,))
    wanted = double.loss(x.double(), y, lengths)
    wanted.backward()
    module = module.to(device)
    with torch_precision("float32"):
        loss = module.loss(x.to(device), y.to(device), lengths.to(device))
        loss.backward()
    torch.testing.assert_close(loss.detach().cpu().double(), wanted.detach(), rtol=1e-5, atol=1e-6)
    for (name, ours), exact in zip(module.named_parameters(), double.parameters(), strict=True):
        error = (ours.grad.cpu().double() - exact.grad).norm() / exact.grad.norm()
        assert error < 1e-4, name


def test_a_second_backward_pass_gives_the_same_gradients(device):
    problem = layer_laws.Problem(Variant(32, 3, 1, 1, "mean", "mixed"))
    arguments = problem.arguments(device, torch.float32)
    logits, _, _ = ops.lstm_linear(**arguments, pooling="mean")
    leaves = [arguments[name] for name in problem.leaves]
    first, second = (
        torch.autograd.grad(logits.square().sum(), leaves, retain_graph=True) for _ in range(2)
    )
    layer_laws.assert_same_bits(second, first)


def test_second_derivatives_equal_the_reference(device):
    problem = layer_laws.Problem(Variant(5, 2, 1, 1, "mean", "mixed", n_windows=3, n_timesteps=4))

    def penalty(function, place, dtype):
        arguments = problem.arguments(place, dtype)
        logits, _, _ = function(**arguments, pooling="mean")
        leaves = [arguments[name] for name in problem.leaves]
        grads = torch.autograd.grad(logits.square().sum(), leaves, create_graph=True)
        sum(grad.square().sum() for grad in grads).backward()
        return [leaf.grad.cpu().double() for leaf in leaves]

    with torch_precision("float32"):
        results = penalty(ops.lstm_linear, device, torch.float32)
    wanted = penalty(reference.lstm_linear, "cpu", torch.float64)
    for a, b in zip(results, wanted, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm()


@pytest.mark.parametrize("hidden_size", [64, 128])
def test_a_long_sequence_is_as_accurate_as_the_frameworks(device, hidden_size):
    n_timesteps = 100_000 if device == "cuda" else 2_000
    torch.manual_seed(2)
    module = LSTMLinear(1, hidden_size, 4, pooling="mean")
    lstm, linear = module.to_torch()
    x = torch.randn(3, n_timesteps, 1)
    with torch.no_grad(), torch_precision("float32"):
        # on the CPU, because cuDNN accepts at most 65535 steps
        theirs = linear(lstm(x)[0].double().mean(1).float())
        states = lstm.double()(x.double())[0]
        exact = linear.double()(states.mean(1))
        # in float32, a sequential sum of so many terms has a notable error
        summed = np.add.accumulate(states.float().numpy(), axis=1)[:, -1] / np.float32(n_timesteps)
        in_sequence = linear(torch.from_numpy(summed).double())
        ours = module.to(device)(x.to(device))
        errors = [
            (f.cpu().double() - exact).norm() / exact.norm() for f in (ours, theirs, in_sequence)
        ]
        assert errors[0] <= 2 * errors[1] + 1.1 * errors[2] + 2e-7
        lengths = torch.tensor([n_timesteps, 17, 0], device=device)
        varlen = module(x.to(device), lengths)
        alone = module(x[1:2, :17].contiguous().to(device))
    assert torch.equal(varlen[0], ours[0])
    assert torch.equal(varlen[1:2], alone)


def last_hidden(lstm, x):
    """Return torch's final states, without oneDNN if it has no bfloat16 LSTM on this processor."""
    try:
        return lstm(x)[1][0][-1]
    except RuntimeError as error:
        if "primitive" not in str(error):
            raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flags() also sets other flags, which causes a warning
        with torch.backends.mkldnn.flags(enabled=False):
            return lstm(x)[1][0][-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_under_autocast_the_error_is_within_the_frameworks(device, dtype):
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("needs a GPU: torch's CPU LSTM has no float16 autocast")
    pairs = []
    for seed in range(4):
        torch.manual_seed(seed)
        module = LSTMLinear(6, 128, 5)
        x = torch.randn(32, 60, 6)
        wanted = LSTMLinear.from_torch(*module.to_torch()).double()(x.double())
        lstm, linear = (layer.to(device) for layer in module.to_torch())
        module = module.to(device)
        with torch.autocast(device, dtype):
            ours = module(x.to(device))
            theirs = linear(last_hidden(lstm, x.to(device)))
        ours.float().sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in module.parameters())
        pairs.append((ours.cpu(), theirs.cpu(), wanted))
    assert_within_budget(pairs, dtype)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_compiled_layer_has_the_bits_of_eager_mode(device, backend):
    if device == "cpu" and backend == "inductor":
        pytest.skip("needs a GPU: the CPU's compiled form is tested in tests/nn")
    torch.manual_seed(3)
    module = LSTMLinear(6, 64, 5, pooling="meanmax").to(device)
    x = torch.randn(9, 20, 6, device=device)
    lengths = torch.randint(0, 21, (9,)).to(device)
    wanted = module(x, lengths)
    wanted_grads = torch.autograd.grad(wanted.sum(), list(module.parameters()))
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    outputs = compiled(x, lengths)
    grads = torch.autograd.grad(outputs.sum(), list(module.parameters()))
    layer_laws.assert_same_bits([outputs.detach()], [wanted.detach()])
    layer_laws.assert_same_bits(grads, wanted_grads)
    torch._dynamo.reset()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_epoch_of_several_models_is_that_of_torch(device, optimizer):
    network = NetworkLayout(3, 16, 4, pooling="mean")
    torch.manual_seed(4)
    modules = [LSTMLinear(3, 16, 4, pooling="mean") for _ in range(3)]
    first = torch.stack([network.flatten(dict(m.named_parameters())) for m in modules])
    x, y = torch.randn(20, 12, 3), torch.randint(0, 4, (20,))
    lengths = torch.randint(1, 13, (20,))
    batches = [[order[:8], order[8:16], order[16:]] for order in (torch.randperm(20),) * 3]
    trainer = EpochTrainer(
        network,
        first.to(device),
        x.to(device),
        y.to(device),
        make_hyper(3),
        lengths=lengths.to(device),
        optimizer=optimizer,
    )
    with torch_precision("float32"):
        trainer.run(*pack_batches(batches), 0.01)
    assert trainer.parameters.device.type == torch.device(device).type
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    for index, module in enumerate(modules):
        module.double()
        steps = kinds[optimizer](module.parameters(), lr=0.01)
        for rows in batches[index]:
            steps.zero_grad()
            logits = module(x[rows].double(), lengths[rows])
            nn.functional.cross_entropy(logits, y[rows]).backward()
            steps.step()
        wanted = network.flatten(dict(module.named_parameters()))
        moved = (wanted - first[index]).norm()
        assert (trainer.parameters[index].cpu() - wanted).norm() < 1e-3 * moved
