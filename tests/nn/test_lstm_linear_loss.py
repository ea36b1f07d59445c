"""LSTMLinear.loss equals forward followed by torch's loss, including the gradients."""

import pytest
import torch
from torch.nn import functional

from sensorseq.errors import ArgumentError, InputError
from sensorseq.nn import LSTMLinear

N, T, C, K = 11, 14, 3, 4
LENGTHS = torch.tensor([14, 3, 0, 7, 12, 1, 14, 9, 9, 2, 5])


def draw_batch(dtype=torch.float64):
    return torch.randn(N, T, C, dtype=dtype), torch.randint(0, K, (N,))


def gradients(module):
    return [p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize("pooling", ["last", "meanmax"])
@pytest.mark.parametrize(
    ("num_layers", "bidirectional", "options"),
    [
        (1, False, {}),
        (1, True, {}),
        (3, True, {}),
        (2, False, {"head_norm": "layer"}),
        (2, False, {"head_norm": "batch"}),
        (2, True, {"dropout": 0.4}),
        (2, False, {"recurrent_dropout": 0.4}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_value_and_gradients_are_those_of_the_logits_and_torchs_cross_entropy(
    num_layers, bidirectional, options, pooling, training
):
    module = LSTMLinear(C, 7, K, num_layers, bidirectional, pooling, **options).double()
    module.train(training)
    x, y = draw_batch()
    weight = torch.rand(N, dtype=torch.float64)
    for lengths, sample_weight, smoothing in (
        (None, None, 0.2),
        (None, weight, 0.0),
        (LENGTHS, None, 0.0),
        (LENGTHS, weight, 0.2),
    ):
        results = []
        for fused in (True, False):
            torch.manual_seed(1)
            module.zero_grad()
            own_x = x.clone().requires_grad_()
            how = {"label_smoothing": smoothing}
            if fused:
                how |= {"sample_weight": sample_weight, "return_logits": True}
                value, logits = module.loss(own_x, y, lengths, **how)
            else:
                logits = module(own_x, lengths)
                losses = functional.cross_entropy(logits, y, reduction="none", **how)
                value = (losses if sample_weight is None else losses * sample_weight).mean()
            value.backward()
            results.append([value.detach(), logits.detach(), own_x.grad, *gradients(module)])
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"head_norm": "layer"}])
def test_the_focal_loss_matches_its_definition(options):
    module = LSTMLinear(C, 7, K, **options).double()
    x, y = draw_batch()
    p = module(x).softmax(1)
    of_class = p.gather(1, y[:, None])[:, 0]
    focal = -((1 - of_class) ** 2 * of_class.log()).mean()
    torch.testing.assert_close(module.loss(x, y, loss="focal"), focal)


def test_a_penalty_on_the_gradient_of_the_input_reaches_the_weights():
    module = LSTMLinear(C, 5, K, num_layers=2).double()
    x, y = draw_batch()
    results = []
    for fused in (True, False):
        module.zero_grad()
        own_x = x.clone().requires_grad_()
        value = module.loss(own_x, y) if fused else functional.cross_entropy(module(own_x), y)
        (by_x,) = torch.autograd.grad(value, own_x, create_graph=True)
        by_x.square().sum().backward()
        results.append([p.grad for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-12)


def test_the_loss_traced_without_graph_breaks_gives_the_same_results():
    module = LSTMLinear(C, 8, K, pooling="meanmax")
    traced = torch.compile(module.loss, fullgraph=True, backend="eager")
    x, y = draw_batch(torch.float32)
    results = []
    for function in (module.loss, traced):
        module.zero_grad()
        value = function(x, y, LENGTHS, label_smoothing=0.1)
        value.backward()
        results.append([value.detach(), *gradients(module)])
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's own compiler
def test_the_compiled_loss_gives_the_same_results():
    module = LSTMLinear(C, 8, K, num_layers=2, bidirectional=True)
    compiled = torch.compile(module.loss, fullgraph=True)
    x, y = draw_batch(torch.float32)
    results = []
    for function in (module.loss, compiled):
        module.zero_grad()
        value = function(x, y, LENGTHS)
        (3 * value).backward()
        results.append([value.detach(), *gradients(module)])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("options", [{}, {"head_norm": "layer"}, {"dropout": 0.5}])
def test_an_argument_that_does_not_fit_is_named(options):
    module = LSTMLinear(C, 5, K, **options)
    x, y = draw_batch(torch.float32)
    with pytest.raises(InputError, match=r"y has shape \(11, 4\); expected \(11,\)"):
        module.loss(x, functional.one_hot(y, K))
    with pytest.raises(InputError, match=r"y has dtype torch\.float32; .* torch\.int64"):
        module.loss(x, y.float())
    with pytest.raises(InputError, match=r"sample_weight has shape \(3,\); expected \(11,\)"):
        module.loss(x, y, sample_weight=torch.ones(3))
    with pytest.raises(InputError, match="x has shape"):
        module.loss(x[0], y)
    with pytest.raises(ArgumentError, match="Did you mean 'focal'"):
        module.loss(x, y, loss="fokal")
    with pytest.raises(ArgumentError, match=r"label_smoothing=-0\.1"):
        module.loss(x, y, label_smoothing=-0.1)
    for wrong in (K, -1, -100):
        y[2] = wrong
        with pytest.raises((RuntimeError, IndexError), match=r"outside|out of bounds"):
            module.loss(x, y)
