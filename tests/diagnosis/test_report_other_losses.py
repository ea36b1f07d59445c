"""Fits with a loss other than cross-entropy are recorded and judged like other fits."""

import numpy as np
import pytest
from fits import plain_classifier
from torch.nn import functional

from sensorseq.diagnosis.report_page import make_page

pytestmark = pytest.mark.usefixtures("few_features")
N_CLASSES = 4


def make_data(n_windows):
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, n_windows)
    phase = rng.uniform(0, 2 * np.pi, n_windows)
    X = np.sin((0.3 + 0.2 * y)[:, None] * np.arange(24) + phase[:, None])
    return X + 0.5 * rng.normal(size=X.shape), y


X, Y = make_data(240)


def fit(loss, data=(X, Y), **options):
    defaults = {"hidden_size": 16, "max_epochs": 40, "learning_rate": 0.02, "random_state": 1}
    defaults |= {"lr_schedule": "constant", "early_stopping": False, "validation_fraction": 0.4}
    return plain_classifier(**{**defaults, "loss": loss, **options}).fit(*data)


def softmax_twice(outputs, target):
    return functional.cross_entropy(outputs.softmax(1), target, reduction="none")


@pytest.fixture(scope="module")
def restless():
    return fit("focal").fluctuation_


def test_a_report_on_another_loss_has_its_record(restless):
    record = restless.record
    assert record.n_epochs == 40
    assert len(record.fixed_loss) == 40
    assert not record.is_in_nats
    assert "A history alone does not show" not in " ".join(restless.explanation)


def test_nothing_of_another_loss_is_said_in_nats(restless):
    in_nats = {name for name, part in restless.statistics.items() if part.unit == "nats"}
    # the entropy of predictions is in nats, whatever the loss
    assert in_nats <= {"val_prediction_entropy"}
    assert not {"fixed_loss", "loss"} & set(restless.evidence)
    page = make_page(restless)
    assert "(nats)" not in page
    assert "(nats)" in make_page(fit("cross_entropy", max_epochs=20).fluctuation_)


@pytest.mark.trains
def test_a_softmax_that_is_taken_twice_is_listed_with_its_repair():
    # whether a single run is flagged depends on its seed and on rounding
    data = make_data(600)
    reports = [
        fit(softmax_twice, data, learning_rate=rate, random_state=seed).fluctuation_
        for rate in (0.02, 0.05)
        for seed in range(6)
    ]
    listed = [report.causes for report in reports if report.verdict == "fluctuating"]
    found = [cause for causes in listed for cause in causes]
    right = [one for one in found if (one.name, one.finding) == ("loss", "not cross-entropy")]
    assert len(listed) >= 4
    assert right
    assert all(cause.recommendation == {"loss": "cross_entropy"} for cause in right)
