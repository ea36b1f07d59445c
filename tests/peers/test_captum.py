"""Compares integrated gradients with captum's on a copy of the network in plain torch.

The classifiers are trained for a few epochs. For a steep network, captum needs tens of thousands of
equal steps; `explain` halves its intervals where the network is steep.
"""

import numpy as np
import pytest
import torch
from fits import plain_classifier

pytestmark = pytest.mark.peers

N, T, C = 90, 40, 3


class Twin(torch.nn.Module):
    """Computes the log-probabilities of a fitted classifier with torch's own LSTM and Linear."""

    def __init__(self, model):
        super().__init__()
        module = model.module_
        layers = module.hidden_size, module.num_layers
        self.lstm = torch.nn.LSTM(
            C, *layers, batch_first=True, bidirectional=module.bidirectional
        ).double()
        self.lstm.load_state_dict(module.lstm.state_dict())
        self.linear = module.linear
        self.pooling, self.temperature = module.pooling, model.temperature_

    def forward(self, x):
        hidden, (h, _) = self.lstm(x)
        pooled = {
            "last": lambda: torch.cat(list(h[-2:] if self.lstm.bidirectional else h[-1:]), 1),
            "mean": lambda: hidden.mean(1),
            "max": lambda: hidden.amax(1),
            "meanmax": lambda: torch.cat([hidden.mean(1), hidden.amax(1)], 1),
        }[self.pooling]()
        return torch.log_softmax(self.linear(pooled) / self.temperature, 1)


@pytest.mark.parametrize(
    ("arguments", "within"),
    [
        ({"pooling": "mean"}, 1e-5),
        ({"pooling": "last", "num_layers": 2, "bidirectional": True}, 1e-3),
        ({"pooling": "meanmax"}, 3e-3),  # the step that has the maximum changes along the path
    ],
)
def test_integrated_gradients_agree_with_captum(arguments, within):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    X = 0.3 * rng.normal(size=(N, T, C))
    X[:, 16:24, 1] += np.array([-1.5, 0.0, 1.5])[y][:, None]
    settings = {"hidden_size": 8, "max_epochs": 30, "dtype": "float64", "patch": None}
    model = plain_classifier(**settings, **arguments, random_state=0).fit(X, y)
    model.temperature_ = 1.3
    scaled = torch.from_numpy(model.scaler_.transform(X[:6])).double()
    target = model.predict(X[:6])
    twin = Twin(model)
    probabilities = torch.exp(twin(scaled)).detach().numpy()
    np.testing.assert_allclose(probabilities, model.predict_proba(X[:6]), atol=1e-12)
    theirs = attr.IntegratedGradients(twin).attribute(
        scaled, target=torch.from_numpy(target), n_steps=1000, internal_batch_size=3000
    )
    ours = model.explain(X[:6], method="gradients", n_regions=T).contributions
    assert np.abs(ours).max() > 0.02
    largest = np.abs(ours - theirs.detach().numpy()).max()
    print(f"{arguments}: largest difference {largest:.1e}, largest share {np.abs(ours).max():.2f}")
    assert largest < within
