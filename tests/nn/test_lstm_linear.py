"""LSTMLinear equals torch.nn.LSTM followed by torch.nn.Linear."""

import copy
import itertools

import pytest
import torch
from op_calls import OpCalls
from torch import nn

from sensorseq.errors import ArgumentError, InputError
from sensorseq.nn import LSTMLinear


def torch_logits(lstm, linear, x):
    _, (h_n, _) = lstm(x)
    last = torch.cat(list(h_n[-2:]), dim=-1) if lstm.bidirectional else h_n[-1]
    return linear(last)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_torchs_weights_it_gives_torchs_logits_states_and_gradients(num_layers, bidirectional):
    lstm = nn.LSTM(3, 7, num_layers, batch_first=True, bidirectional=bidirectional).double()
    linear = nn.Linear(14 if bidirectional else 7, 4).double()
    module = LSTMLinear.from_torch(lstm, linear)
    x = torch.randn(5, 20, 3, dtype=torch.float64)
    state = torch.randn(2, num_layers * (1 + bidirectional), 5, 7, dtype=torch.float64).unbind()

    logits, (h_n, c_n) = module(x, state=state, return_state=True)
    _, (expected_h, expected_c) = lstm(x, state)
    last = torch.cat(list(expected_h[-2:]), dim=-1) if bidirectional else expected_h[-1]
    torch.testing.assert_close(logits, linear(last))
    torch.testing.assert_close(h_n, expected_h)
    torch.testing.assert_close(c_n, expected_c)

    logits.square().sum().backward()
    linear(last).square().sum().backward()
    for name, parameter in [*lstm.named_parameters()]:
        torch.testing.assert_close(module.lstm.get_parameter(name).grad, parameter.grad)
    torch.testing.assert_close(module.linear.weight.grad, linear.weight.grad)


def test_the_state_dict_has_the_names_and_shapes_of_torch():
    class Usual(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 5, 2, bidirectional=True)
            self.linear = nn.Linear(10, 4)

    usual = Usual().state_dict()
    ours = LSTMLinear(3, 5, 4, num_layers=2, bidirectional=True)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in usual.items()
    }
    ours.load_state_dict(usual)


def test_to_torch_and_back_is_the_identity():
    module = LSTMLinear(3, 5, 4, num_layers=2, bidirectional=True, dropout=0.3).eval()
    lstm, linear = module.to_torch()
    again = LSTMLinear.from_torch(lstm, linear)
    x = torch.randn(2, 9, 3)
    assert not again.training
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)
    torch.testing.assert_close(module(x), torch_logits(lstm, linear, x))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "meanmax"])
def test_padding_is_never_read(num_layers, pooling):
    module = LSTMLinear(2, 6, 3, num_layers=num_layers, bidirectional=True, pooling=pooling)
    lengths = torch.tensor([5, 9, 1])
    x = torch.randn(3, 9, 2)
    dirty = x.clone()
    for row, length in enumerate(lengths):
        dirty[row, length:] = torch.nan
    torch.testing.assert_close(module(dirty, lengths), module(x, lengths), rtol=0, atol=0)
    for row, length in enumerate(lengths):
        alone = module(x[row : row + 1, :length])
        torch.testing.assert_close(module(x, lengths)[row : row + 1], alone)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"head_norm": "batch"}]
)
def test_training_and_evaluation_differ_only_where_they_should(options):
    module = LSTMLinear(2, 16, 3, num_layers=2, pooling="mean", **options)
    x = torch.randn(8, 10, 2)
    module.train()
    assert not torch.equal(module(x), module.eval()(x))
    torch.testing.assert_close(module(x), module(x), rtol=0, atol=0)


def recurrent_masks(module, x):
    """The masks that reach the operators, layer by layer."""
    with OpCalls("lstm", "lstm_linear") as seen:
        module.train()(x)
    return [args[7] for args in seen.calls["lstm"]] + [
        args[9] for args in seen.calls["lstm_linear"]
    ]


def test_one_recurrent_mask_is_used_for_all_steps_of_a_sequence():
    torch.manual_seed(0)
    module = LSTMLinear(1, 64, 2, recurrent_dropout=0.5)
    (mask,) = recurrent_masks(module, torch.zeros(200, 5, 1))
    assert mask.shape == (1, 200, 1, 64)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert abs(mask.mean().item() - 1.0) < 0.05


def test_every_layer_has_its_own_recurrent_mask():
    module = LSTMLinear(1, 64, 2, num_layers=3, recurrent_dropout=0.5)
    masks = recurrent_masks(module, torch.randn(4, 5, 1))
    assert len(masks) == 3
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(masks, 2))


def test_dropout_keeps_the_expected_input_of_the_head():
    module = LSTMLinear(1, 32, 2, pooling="mean", dropout=0.4)
    x = torch.randn(1, 10, 1).expand(4000, 10, 1)
    with torch.no_grad():
        trained = module.train()(x)
        mean, error = trained.mean(0), trained.std(0) / 4000**0.5
        assert ((mean - module.eval()(x[:1])[0]).abs() < 5 * error).all()


@pytest.mark.parametrize(("head_norm", "over"), [("batch", 0), ("layer", 1)])
def test_a_head_norm_standardizes_the_pooled_vector_over_windows_or_over_its_values(
    head_norm, over
):
    module = LSTMLinear(2, 6, 6, head_norm=head_norm, pooling="mean").train()
    plain = LSTMLinear(2, 6, 6, pooling="mean")
    nn.init.eye_(module.linear.weight)
    nn.init.zeros_(module.linear.bias)
    plain.load_state_dict(module.state_dict(), strict=False)
    x = torch.randn(8, 10, 2)
    pooled = plain(x)
    variance, mean = torch.var_mean(pooled, over, correction=0, keepdim=True)
    torch.testing.assert_close(module(x), (pooled - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize("head_norm", ["none", "batch", "layer"])
def test_copies_and_state_dicts_contain_everything(head_norm):
    module = LSTMLinear(2, 6, 3, head_norm=head_norm, pooling="meanmax")
    x = torch.randn(4, 10, 2)
    module(x)  # updates the running statistics of a batch norm
    module.eval()
    twin = LSTMLinear(2, 6, 3, head_norm=head_norm, pooling="meanmax").eval()
    twin.load_state_dict(module.state_dict())
    for other in (twin, copy.deepcopy(module)):
        torch.testing.assert_close(other(x), module(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "average"}, "pooling='average'"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"head_norm": "bach"}, "'batch'"),
    ],
)
def test_an_unusable_argument_is_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        LSTMLinear(**{"input_size": 2, "hidden_size": 4, "num_classes": 3, **options})


def test_a_wrong_input_shape_is_named():
    module = LSTMLinear(2, 4, 3)
    with pytest.raises(InputError, match=r"\(5, 2, 10\); expected \(n_windows, n_timesteps, 2\)"):
        module(torch.zeros(5, 2, 10))
    with pytest.raises(InputError, match=r"h_0 has shape"):
        module(torch.zeros(5, 6, 2), state=(torch.zeros(1, 4, 4), torch.zeros(1, 5, 4)))


def test_options_of_torch_that_we_do_not_support_are_refused():
    for lstm, linear, message in (
        (nn.LSTM(2, 4, proj_size=2), nn.Linear(2, 3), "proj_size"),
        (nn.LSTM(2, 4, bias=False), nn.Linear(4, 3), "bias"),
        (nn.LSTM(2, 4), nn.Linear(8, 3), "8 features"),
        (nn.GRU(2, 4), nn.Linear(4, 3), r"lstm is of type GRU; give a torch\.nn\.LSTM"),
        (nn.LSTM(2, 4), 3, r"linear is of type int; give a torch\.nn\.Linear"),
    ):
        with pytest.raises(ArgumentError, match=message):
            LSTMLinear.from_torch(lstm, linear)
    with pytest.raises(ArgumentError, match="head_norm"):
        LSTMLinear(2, 4, 3, head_norm="layer").to_torch()
