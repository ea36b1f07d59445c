"""Switching the class of torch's LSTMs changes the code that computes a model, and nothing else."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence

from sensorseq.nn import LSTM


def accelerate(model):
    """Switch the LSTMs of a model as docs/nn.md shows."""
    for module in model.modules():
        if type(module) is nn.LSTM:
            module.__class__ = LSTM
    return model


def served_by(model):
    return [m.choice().served_by for m in model.modules() if isinstance(m, LSTM)]


class Tagger(nn.Module):
    """A model as users write it: an LSTM over packed sequences, and a second LSTM."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(3, 5, 2, dropout=0.2, bidirectional=True, batch_first=True)
        self.others = nn.ModuleList([nn.LSTM(10, 4, bias=False), nn.Linear(4, 2)])

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.encoder(packed)
        _, (h_n, _) = self.others[0](packed)
        return self.others[1](h_n[-1])


X, LENGTHS = torch.randn(4, 6, 3), [3, 6, 1, 4]


def test_training_that_has_begun_continues_unchanged():
    model = Tagger()
    untouched = copy.deepcopy(model)
    for m in (model, untouched):
        optimizer = torch.optim.AdamW(m.parameters(), lr=0.01)
        torch.manual_seed(0)
        for step in range(8):
            if step == 3 and m is model:
                objects, names = set(m.modules()), [*m.state_dict()]
                assert accelerate(m) is m
                assert set(m.modules()) == objects
                assert [*m.state_dict()] == names
            optimizer.zero_grad()
            m(X, LENGTHS).square().sum().backward()
            optimizer.step()
    assert served_by(model) == ["native", "native"]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, untouched.get_parameter(name))


def test_an_accelerated_lstm_still_counts_as_a_torch_lstm():
    lstm = accelerate(nn.LSTM(2, 3, 2, batch_first=True))
    assert isinstance(lstm, nn.LSTM)
    assert (lstm.hidden_size, lstm.batch_first, len(lstm.all_weights)) == (3, True, 2)
    lstm.flatten_parameters()
    assert repr(lstm) == "LSTM(2, 3, num_layers=2, batch_first=True)"


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "torch.save", "state dict"])
def test_copies_and_files_stay_accelerated(copied):
    model = accelerate(Tagger()).eval()
    if copied == "deepcopy":
        twin = copy.deepcopy(model)
    elif copied == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    elif copied == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    else:
        twin = Tagger().eval()
        twin.load_state_dict(model.state_dict())
        model.load_state_dict(twin.state_dict())
    assert (type(twin.encoder) is LSTM) == (copied != "state dict")
    torch.testing.assert_close(twin(X, LENGTHS), model(X, LENGTHS))


def test_hooks_and_sharing_survive():
    shared, seen = nn.LSTM(3, 3), []
    model = nn.ModuleDict({"one": shared, "two": shared})
    shared.register_forward_hook(lambda module, inputs, output: seen.append(output[0].shape))
    accelerate(model)
    assert model["one"] is model["two"] is shared
    assert type(shared) is LSTM
    model["two"](torch.zeros(4, 2, 3))
    assert seen == [(4, 2, 3)]


def test_pruned_weights_stay_pruned():
    theirs = nn.LSTM(3, 5)
    ours, mask = copy.deepcopy(theirs), torch.rand(20, 5) < 0.5
    for module in (ours, theirs):
        prune.custom_from_mask(module, "weight_hh_l0", mask)
    accelerate(ours)
    assert served_by(ours) == ["native"]
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    with torch.no_grad():  # the mask is applied again in each call
        ours.weight_hh_l0_orig.mul_(2)
        theirs.weight_hh_l0_orig.mul_(2)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def test_an_accelerated_lstm_can_be_parametrized():
    theirs = nn.LSTM(3, 5)
    ours = accelerate(copy.deepcopy(theirs))
    for module in (ours, theirs):
        parametrizations.weight_norm(module, "weight_hh_l0")
        module.parametrizations.weight_hh_l0.original0.data.mul_(1.5)
    assert served_by(ours) == ["native"]
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection_is_left_to_torch():
    theirs = nn.LSTM(3, 5, proj_size=2)
    ours, x = accelerate(copy.deepcopy(theirs)), torch.randn(4, 2, 3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_uses_torchs_lstm_again():
    model = nn.Sequential(accelerate(nn.LSTM(3, 5)))
    x = torch.randn(4, 2, 3)
    expected = model(x)[0]
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x)[0], expected)
    assert type(model[0]) is nn.LSTM
