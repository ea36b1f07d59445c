import pytest
import torch
from torch.nn import functional

from sensorseq.errors import ArgumentError
from sensorseq.training.evaluation import make_loss

LOGITS = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(20) % 4


def test_cross_entropy_equals_torchs():
    ours = make_loss("cross_entropy", label_smoothing=0.1)(LOGITS, TARGET)
    theirs = functional.cross_entropy(LOGITS, TARGET, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


def test_focal_loss_is_cross_entropy_times_the_squared_missing_probability():
    p = functional.softmax(LOGITS, 1)[torch.arange(20), TARGET]
    ours = make_loss("focal")(LOGITS, TARGET)
    torch.testing.assert_close(ours, -((1 - p) ** 2) * p.log())


def test_focal_loss_of_a_certain_answer_is_zero_and_has_a_finite_gradient():
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    losses = make_loss("focal")(logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses[0] == 0
    assert losses[1].item() == pytest.approx(200.0)
    assert logits.grad.isfinite().all()


def test_a_callable_that_returns_a_wrong_shape_is_refused():
    with pytest.raises(ArgumentError, match=r"loss returned \(2,\) for 20 windows"):
        make_loss(lambda logits, target: logits[:2, 0])(LOGITS, TARGET)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ArgumentError, match="Did you mean 'cross_entropy'"):
        make_loss("crossentropy")
