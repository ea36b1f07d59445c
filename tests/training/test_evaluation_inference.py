import copy
import importlib

import pytest
import torch

from sensorseq.nn import LSTMLinear
from sensorseq.ops import choice
from sensorseq.training.batches import EVALUATION_BATCH
from sensorseq.training.evaluation import network_outputs


def make_module(**arguments):
    torch.manual_seed(0)
    return LSTMLinear(2, 6, 3, **arguments).eval()


def predict_outputs(module, X, lengths):
    valid = None if lengths is None else lengths.numpy()
    return torch.from_numpy(network_outputs(module, X.numpy(), valid)).to(X.dtype)


def make_windows(n):
    return torch.randn(n, 9, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pooling": "meanmax", "bidirectional": True},
        {"num_layers": 2, "pooling": "max"},
        {"head_norm": "layer"},
        {"dtype": torch.float64},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, EVALUATION_BATCH, EVALUATION_BATCH + 1])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_outputs_are_those_of_the_module(arguments, n, with_lengths):
    module, X = make_module(**arguments), make_windows(n)
    X = X.to(module.linear.weight.dtype)
    lengths = torch.arange(n) % 10 if with_lengths else None
    with torch.no_grad():
        # Use the same blocks as the code, because blocks affect the last bit of torch's linear
        # layer after a norm.
        blocks = [slice(0, EVALUATION_BATCH), slice(EVALUATION_BATCH, n)][
            : 1 + (n > EVALUATION_BATCH)
        ]
        wanted = torch.cat([module(X[b], None if lengths is None else lengths[b]) for b in blocks])
    # the bits are equal except after a norm, because torch's linear layer sums in another order
    atol = 1e-6 if "head_norm" in arguments else 0
    torch.testing.assert_close(predict_outputs(module, X, lengths), wanted, rtol=0, atol=atol)


def test_the_last_batch_is_computed_by_the_same_code_as_the_others(monkeypatch):
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = make_module(bidirectional=True)

        def forward(self, x, lengths):
            return self.module(x, lengths)

    chosen_for = []

    def choose_here(*arguments, n_sequences, **options):
        chosen_for.append(n_sequences)
        return choice.choose_here(*arguments, n_sequences=n_sequences, **options)

    wrapper = importlib.import_module("sensorseq.ops.lstm_linear")
    monkeypatch.setattr(wrapper, "choose_here", choose_here)
    network_outputs(Other(), make_windows(EVALUATION_BATCH + 1).numpy(), None)
    assert chosen_for == [2 * EVALUATION_BATCH] * 2


@pytest.mark.parametrize("name", ["lstm.weight_hh_l0", "lstm.bias_ih_l0", "linear.weight"])
@pytest.mark.parametrize("how", ["in place", "load", "replace"])
def test_a_change_of_the_weights_is_noticed(name, how):
    module, X = make_module(), make_windows(4)
    before = predict_outputs(module, X, None)
    changed = {
        key: 2 * value if key == name else value for key, value in module.state_dict().items()
    }
    if how == "load":
        module.load_state_dict(changed)
    elif how == "in place":
        with torch.no_grad():
            module.get_parameter(name).mul_(2.0)
    else:
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, torch.nn.Parameter(changed[name]))
    after = predict_outputs(module, X, None)
    assert not torch.equal(after, before)
    with torch.no_grad():
        torch.testing.assert_close(after, module(X), rtol=0, atol=0)


def test_a_copy_has_its_own_weights():
    module, X = make_module(), make_windows(4)
    before = predict_outputs(module, X, None)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.linear.bias.add_(1.0)
    torch.testing.assert_close(predict_outputs(twin, X, None), before + 1.0)
    torch.testing.assert_close(predict_outputs(module, X, None), before, rtol=0, atol=0)


def test_a_module_in_training_mode_predicts_without_dropout():
    module, X = make_module(dropout=0.5, recurrent_dropout=0.5), make_windows(4)
    wanted = predict_outputs(module, X, None)
    assert torch.equal(predict_outputs(module.train(), X, None), wanted)
