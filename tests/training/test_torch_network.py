import pytest
import torch

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.training.torch_network import initialize_weights


def initialized(weight_init="xavier", recurrent_init="orthogonal", forget_bias=1.0, seed=0):
    module = LSTMLinear(3, 5, 4, num_layers=2, bidirectional=True, head_norm="layer")
    generator = torch.Generator().manual_seed(seed)
    initialize_weights(module, weight_init, recurrent_init, forget_bias, generator)
    return module.state_dict()


def test_biases_are_zero_except_those_of_the_forget_gate_in_one_of_the_two():
    state = initialized(forget_bias=1.5)
    for name, tensor in state.items():
        if "bias_ih" in name:
            assert tensor.tolist() == [0.0] * 5 + [1.5] * 5 + [0.0] * 10
        elif "bias" in name and not name.startswith("norm."):
            assert (tensor == 0).all(), name


def test_each_gate_of_an_orthogonal_recurrent_matrix_keeps_norms():
    for name, tensor in initialized().items():
        if "weight_hh" in name:
            for gate in tensor.chunk(4):
                torch.testing.assert_close(gate @ gate.T, torch.eye(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scheme", "bound"),
    [("xavier", (6 / (3 + 5)) ** 0.5), ("he", (6 / 3) ** 0.5), ("uniform", 5**-0.5)],
)
def test_uniform_draws_fill_their_interval_and_stay_inside(scheme, bound):
    draws = torch.cat(
        [initialized(scheme, seed=seed)["lstm.weight_ih_l0"].flatten() for seed in range(20)]
    )
    assert draws.abs().max() <= bound
    assert draws.abs().max() > 0.97 * bound
    assert abs(draws.mean().item()) < 0.1 * bound


def test_uniform_head_weights_are_bounded_as_torchs_linear():
    head = initialized("uniform")["linear.weight"]
    assert head.abs().max() <= 10**-0.5


def test_equal_generators_give_equal_weights_whatever_the_global_state():
    torch.manual_seed(1)
    first = initialized(seed=3)
    torch.manual_seed(2)
    second = initialized(seed=3)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["linear.weight"], initialized(seed=4)["linear.weight"])


def test_a_callable_fills_each_weight_it_is_asked_for_by_name():
    names = []

    def fill(name, tensor, generator):
        names.append(name)
        tensor.fill_(0.25)

    state = initialized(weight_init=fill)
    assert "lstm.weight_ih_l1_reverse" in names
    assert "linear.weight" in names
    assert not any("weight_hh" in name or "bias" in name for name in names)
    torch.testing.assert_close(state["linear.weight"], torch.full((4, 10), 0.25))


def test_a_callable_that_leaves_nan_is_named():
    with pytest.raises(ArgumentError, match=r"weight_init .* lstm.weight_ih_l0"):
        initialized(weight_init=lambda name, tensor, generator: tensor.fill_(float("nan")))


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(ArgumentError, match=r"recurrent_init='ortogonal'.*'orthogonal'"):
        initialized(recurrent_init="ortogonal")
