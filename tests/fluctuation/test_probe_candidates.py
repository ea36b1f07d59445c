import math

import numpy as np
import pytest
from fake_lab import FakeLab

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.probes.arm import LabWindows
from sensorseq.fluctuation.probes.candidate import RACED
from sensorseq.fluctuation.probes.candidates import snapshot_candidates
from sensorseq.fluctuation.probes.init_candidates import init_candidates, level_candidates
from sensorseq.fluctuation.probes.readings import (
    clip_norm,
    gradient_noise_scale,
    input_scale,
    matched_adam_rate,
    rate_falls,
    small_batch,
)

ALL = [Cause(name, "observed", 0.5, "") for name in RACED]


def all_candidates(lab):
    return [
        *snapshot_candidates(lab, ALL, 4),
        *init_candidates(lab, ALL),
        *level_candidates(lab, ALL, "not_learning"),
        *level_candidates(lab, ALL, "diverged"),
    ]


def test_every_raced_cause_has_a_change():
    lab = FakeLab(arguments={"loss": "mse"})
    assert {part.cause for part in all_candidates(lab)} == set(RACED) - {"dropout_noise"}
    causes = [Cause("dropout_noise", "observed", 0.5, "")]
    assert snapshot_candidates(lab, causes, 4)[0].cause == "dropout_noise"


def test_every_change_differs_from_the_run_and_can_be_made():
    lab = FakeLab(arguments={"loss": "mse", "weight_decay": 0.01})
    for candidate in all_candidates(lab):
        arm = candidate.make_arm(4 if candidate.kind == "snapshot" else None, 1, 8)
        assert set(arm.change) <= lab.changeable
        for name, value in arm.change.items():
            assert lab.arguments[name] != value
        is_other = arm.rate_factor != 1 or arm.decays or arm.rescale is not None
        assert is_other or arm.change
        assert candidate.change


def test_a_new_optimizer_or_scaling_restarts_the_moments():
    for candidate in snapshot_candidates(FakeLab(arguments={"loss": "mse"}), ALL, 4):
        needs = candidate.cause in ("optimizer", "preprocessing", "loss")
        assert candidate.restarts is needs
        assert candidate.make_unchanged(4, 1, 8).restarts_optimizer is needs


def test_nothing_is_left_where_nothing_can_be_changed():
    lab = FakeLab(channel_sd=1.0)
    lab.train = lab.train._replace(X=np.random.default_rng(0).normal(0, 1, (600, 20, 2)))
    lab.changeable = frozenset()
    names = {part.name for part in snapshot_candidates(lab, ALL, 4)}
    assert names == {"learning_rate / 4", "learning_rate / 16", "a decaying learning rate"}
    assert not init_candidates(lab, ALL)


def test_an_average_of_the_weights_comes_first_where_one_can_be_taken():
    lab = FakeLab(arguments={"ema_decay": None})
    first = snapshot_candidates(lab, ALL, 4)[0]
    assert first.change == first.arm["change"] == {"ema_decay": 0.99}
    for options, unit in (({"ema_decay": 0.9}, "nats"), ({}, "nats"), ({"ema_decay": None}, "")):
        lab = FakeLab(arguments=options)
        lab.record.loss_unit = unit
        assert not any("ema_decay" in one.change for one in snapshot_candidates(lab, ALL, 4))


def test_a_falling_rate_needs_no_schedule():
    lab = FakeLab()
    n_steps = len(lab.record.steps["learning_rate"])
    assert not rate_falls(lab.record)
    lab.record.steps["learning_rate"] = np.linspace(1, 0.01, n_steps)
    assert rate_falls(lab.record)
    assert not any(part.arm.get("decays") for part in snapshot_candidates(lab, ALL, 4))


def test_clipping_is_at_the_upper_quartile_of_the_norms_before_the_snapshot():
    lab = FakeLab()
    last = lab.record.snapshots[3].step
    n_steps = int(lab.record.epoch_steps[-1])
    norms = lab.record.steps["grad_norm"]
    norms[last:] = 1e6
    assert clip_norm(lab.record, 3) == pytest.approx(
        np.quantile(norms[last - n_steps // 4 : last], 0.75)
    )


def test_the_rate_of_adam_gives_steps_of_the_same_length():
    # Its step has a root mean square of 0.23 rates for a gradient of pure noise: simulated here.
    rng = np.random.default_rng(0)
    first, second, steps = 0.0, 0.0, []
    for step in range(1, 3001):
        gradient = rng.normal(size=50)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        moved = (first / (1 - 0.9**step)) / np.sqrt(second / (1 - 0.999**step))
        steps.append(np.sqrt(np.mean(moved**2)))
    per_rate = float(np.median(steps[500:]))
    lab = FakeLab()
    parameters = list(lab.module_at(4).parameters())
    norm = math.sqrt(sum(float(p.detach().square().sum()) for p in parameters))
    n_parameters = sum(p.numel() for p in parameters)
    rate = matched_adam_rate(lab, 4)
    assert rate * per_rate * math.sqrt(n_parameters) / norm == pytest.approx(1e-3, rel=0.05)


def test_the_noise_scale_is_that_of_the_gradients_it_is_made_of():
    # Batch gradients of mean norm 1 and a covariance of trace 50 for one window.
    rng = np.random.default_rng(0)
    lab = FakeLab(n_epochs=500)
    size, trace, n_dims = 16, 50.0, 20
    n_steps = len(lab.record.steps["grad_norm"])
    noise = rng.normal(0, math.sqrt(trace / n_dims / size), (n_steps, n_dims))
    noise[:, 0] += 1.0
    lab.record.steps["n_windows"] = np.full(n_steps, float(size))
    lab.record.steps["grad_norm"] = np.linalg.norm(noise, axis=1)
    lab.record.steps["gradient_noise"] = np.where(np.arange(n_steps) % 8 == 0, trace, np.nan)
    assert gradient_noise_scale(lab.record) == pytest.approx(50, rel=0.25)


@pytest.mark.parametrize(
    ("batch_size", "n_train", "gradient_noise", "is_small"),
    [(2, 100, 0.1, True), (7, 100, 0.1, True), (16, 100, 0.1, False), (16, 2000, 0.1, True)],
)
def test_position_of_the_batch_size(batch_size, n_train, gradient_noise, is_small):
    lab = FakeLab(batch_size=batch_size, n_train=n_train, gradient_noise=gradient_noise)
    assert bool(small_batch(lab)) is is_small


def test_a_large_noise_scale_makes_batches_small():
    lab = FakeLab(batch_size=32, gradient_noise=0.1)
    assert not small_batch(lab)
    lab.record.steps["grad_norm"] = np.full_like(lab.record.steps["grad_norm"], 1.0)
    lab.record.steps["gradient_noise"] = np.full_like(lab.record.steps["grad_norm"], 30.0)
    assert "noise scale" in small_batch(lab)


def test_scale_of_the_input_leaves_padding_and_constant_channels_alone():
    rng = np.random.default_rng(0)
    X = rng.normal([100, 0, 7], [20, 1, 0], (50, 10, 3))
    lengths = rng.integers(3, 11, 50)
    X[np.arange(10) >= lengths[:, None]] = 0.0
    mean, sd = input_scale(LabWindows(X, lengths, np.zeros(50, np.int64)))
    assert mean == pytest.approx([100, 0, 0], abs=5)
    assert sd == pytest.approx([20, 1, 1], rel=0.15)
    assert input_scale(LabWindows(X[:, :, 1:], lengths, np.zeros(50, np.int64))) is None
