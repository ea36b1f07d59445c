"""A network trained with torch gives the same predictions here."""

import numpy as np
import pytest
import torch
from fits import reloaded
from scipy.special import expit, softmax

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 14, 3)).astype(np.float32)


def torch_logits(lstm, linear, pooling, windows=X):
    with torch.no_grad():
        hidden, (final, _) = lstm(torch.tensor(windows))
        n_directions = 2 if lstm.bidirectional else 1
        last = torch.cat(list(final[-n_directions:]), dim=1)
        pooled = {"last": last, "mean": hidden.mean(1), "max": hidden.amax(1)}[pooling]
        return linear(pooled).double().numpy()


def torch_pair(n_outputs=4, **options):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 5, batch_first=True, **options)
    return lstm, torch.nn.Linear(10 if lstm.bidirectional else 5, n_outputs)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_a_classifier_from_torch_gives_the_same_probabilities(options, pooling, tmp_path):
    lstm, linear = torch_pair(**options)
    clf = SensorLSTMClassifier.from_torch(lstm, linear, pooling=pooling, device="cpu")
    expected = softmax(torch_logits(lstm, linear, pooling), axis=1)
    for fitted in (clf, *reloaded(clf, tmp_path)):
        np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)
        assert fitted.classes_.tolist() == [0, 1, 2, 3]
        assert fitted.fluctuation_.verdict == "too_short_to_tell"
        assert fitted.engine_.reason == "the weights were taken from torch.nn.LSTM"


def test_classes_name_the_outputs_in_their_order():
    lstm, linear = torch_pair(3)
    names = np.array(["snow", "ice", "sand"])
    clf = SensorLSTMClassifier.from_torch(lstm, linear, classes=names, device="cpu")
    assert clf.classes_.tolist() == ["ice", "sand", "snow"]
    logits = torch_logits(lstm, linear, "last")
    np.testing.assert_array_equal(clf.predict(X), names[logits.argmax(1)])
    np.testing.assert_allclose(clf.decision_function(X), logits[:, [1, 2, 0]], atol=1e-6)


def test_a_single_logit_is_that_of_the_second_class():
    lstm, linear = torch_pair(1)
    clf = SensorLSTMClassifier.from_torch(lstm, linear, device="cpu")
    logit = torch_logits(lstm, linear, "last")[:, 0]
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], expit(logit), atol=1e-6)
    np.testing.assert_allclose(clf.decision_function(X), logit, atol=1e-6)


def test_an_imported_network_can_be_trained_further():
    lstm, linear = torch_pair(2)
    y = np.arange(9) % 2
    settings = {"warm_start": True, "learning_rate": 1e-4, "max_epochs": 1, "device": "cpu"}
    clf = SensorLSTMClassifier.from_torch(lstm, linear, **settings)
    before = clf.predict_proba(X)
    clf.set_params(validation_fraction=0.0, early_stopping=False).fit(X, y)
    after = clf.predict_proba(X)
    assert 0 < np.abs(after - before).max() < 0.01
    assert clf.scaler_ is None
    with pytest.raises(InputError, match=r"classes \[0, 1, 2\], but warm_start=True"):
        clf.fit(X, np.arange(9) % 3)


def test_the_imported_weights_are_copies():
    lstm, linear = torch_pair()
    clf = SensorLSTMClassifier.from_torch(lstm, linear, device="cpu")
    before = clf.predict_proba(X)
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
        linear.weight.zero_()
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a", "b"]}, "but the network has 4 outputs"),
        ({"classes": ["a", "b", "b", "c"]}, "one distinct label per output"),
        ({"hidden_size": 9}, "hidden_size=9 cannot be set here: the network determines it"),
        ({"scale": "standard"}, "scale='standard' cannot be set here: there are no data"),
        ({"pooling": "meanmax"}, "linear expects 5 features, but pooling='meanmax'"),
        ({"pooling": "first"}, "pooling='first' is not known"),
    ],
)
def test_arguments_that_do_not_fit_the_network_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        SensorLSTMClassifier.from_torch(*torch_pair(), **arguments)
