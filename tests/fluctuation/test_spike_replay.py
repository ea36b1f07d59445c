"""Leaps of the loss that clipping takes away, and those that it does not."""

from dataclasses import replace

import numpy as np
import pytest
from probe_labs import SmallLab, make_windows, with_record

from sensorseq.fluctuation.probes.batch_rows import rows_of_steps, windows_of_spikes
from sensorseq.fluctuation.probes.find_spikes import REACH, find_spikes
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.spikes import spike_replay

BAD, N_TRAIN = 17, 120


def lab_with_a_toxic_window(weight, **options):
    """A window with a wrong label and a large weight: its gradient throws the network off."""
    windows = make_windows(N_TRAIN, 1, signal=1.0)
    target, weights = windows.target.copy(), np.ones(N_TRAIN)
    target[BAD], weights[BAD] = (target[BAD] + 1) % 3, weight
    chosen = {
        "max_epochs": 24, "max_grad_norm": None, "lr_schedule": "constant", "batch_size": 4,
        "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0, **options,
    }  # fmt: skip
    return SmallLab(windows._replace(target=target), weight=weights, **chosen)


@pytest.fixture(scope="module")
def toxic():
    return lab_with_a_toxic_window(100.0)


def test_clipping_is_confirmed_where_rare_gradients_throw_the_network_off(toxic):
    purse = Purse(toxic, 100)
    (trial,) = spike_replay(toxic, purse).trials
    assert trial.outcome == "confirmed", trial.sentence
    assert trial.n_pairs == 3
    assert set(trial.change) == {"max_grad_norm"}
    norms = toxic.record.steps["grad_norm"]
    assert np.quantile(norms, 0.5) < trial.change["max_grad_norm"] < np.quantile(norms, 0.95)
    assert trial.raw_change < 0.02
    assert trial.cost_epochs == purse.spent
    # the planted window is named, by chance it is in 1/30 of the batches
    assert f"rows {BAD} (in " in trial.sentence
    assert "data problem" in trial.sentence


def test_the_arms_are_the_run_but_for_what_they_say(toxic):
    toxic.arms.clear()
    spike_replay(toxic, Purse(toxic, 100))
    assert all(arm.seed is None for arm in toxic.arms)
    n_starts = len({arm.start for arm in toxic.arms})
    clipped, controls = toxic.arms[:n_starts], toxic.arms[n_starts:]
    unchanged, nudged = controls[::2], controls[1::2]
    for trio in zip(clipped, unchanged, nudged, strict=True):
        assert [bool(arm.change) for arm in trio] == [True, False, False]
        assert [arm.rate_factor for arm in trio] == [1, 1, 0.999]
        assert len({(arm.start, arm.n_epochs) for arm in trio}) == 1


def test_spikes_that_clipping_does_not_take_away_reject_it(toxic):
    class Unmoved(type(toxic)):
        """Its clipped and nudged arms are the unchanged one."""

        def __init__(self):
            self.__dict__.update(toxic.__dict__)
            self.ran = []

        def run_one(self, arm):
            self.ran.append(arm)
            return super().run_one(replace(arm, change={}, rate_factor=1.0))

    lab = Unmoved()
    purse = Purse(lab, 100)
    (trial,) = spike_replay(lab, purse).trials
    assert trial.outcome == "rejected", trial.sentence
    assert "0 of 3 lost" in trial.sentence
    assert purse.spent == sum({arm.start: arm.n_epochs for arm in lab.ran}.values())


def test_spikes_that_go_away_by_a_nudge_are_left_undecided(toxic):
    class Fragile(type(toxic)):
        """Whatever changes anything takes its spikes away."""

        def __init__(self):
            self.__dict__.update(toxic.__dict__)

        def run_one(self, arm):
            result = super().run_one(arm)
            if arm.change or arm.rate_factor != 1:
                result.record.steps["loss"][:] = 0.3
            return result

    lab = Fragile()
    (trial,) = spike_replay(lab, Purse(lab, 100)).trials
    assert trial.outcome == "undecided", trial.sentence
    assert "least detail" in trial.sentence


def test_a_replay_that_does_not_give_the_spikes_again_proves_nothing(toxic):
    class Other(type(toxic)):
        """Its arms are of another order, and calm."""

        def __init__(self):
            self.__dict__.update(toxic.__dict__)

        def run_one(self, arm):
            result = super().run_one(arm)
            result.record.steps["loss"][:] = 0.3
            return result

    lab = Other()
    (trial,) = spike_replay(lab, Purse(lab, 100)).trials
    assert trial.outcome == "undecided"
    assert "gave 3 of 3 not again" in trial.sentence


def test_a_budget_that_is_too_small_is_not_spent(toxic):
    purse = Purse(toxic, 5)
    (gap,) = spike_replay(toxic, purse).not_tested
    assert purse.spent == 0
    assert "budget of 5.0 epochs" in gap.reason
    (gap,) = spike_replay(toxic, Purse(toxic, 50), share=0.1).not_tested
    assert "budget of 5.0 epochs" in gap.reason
    assert f"rows {BAD}" in gap.reason  # what is known without a step is said all the same


def test_a_run_that_is_clipped_already_or_cannot_be_is_not_tested(toxic):
    bounded = with_record(toxic)
    bounded.arguments = {**toxic.arguments, "max_grad_norm": 0.1}
    (gap,) = spike_replay(bounded, Purse(bounded, 100)).not_tested
    assert "although more than a quarter of the gradients before were clipped" in gap.reason
    fixed = with_record(toxic)
    fixed.changeable = frozenset()
    (gap,) = spike_replay(fixed, Purse(fixed, 100)).not_tested
    assert "cannot be changed" in gap.reason


def test_a_calm_run_has_nothing_to_replay():
    windows = make_windows(N_TRAIN, 1, signal=1.0)
    lab = SmallLab(windows, max_epochs=12, learning_rate=0.003, batch_size=16)
    purse = Purse(lab, 100)
    (gap,) = spike_replay(lab, purse).not_tested
    assert "leaps up after no step" in gap.reason
    assert purse.spent == 0


# --- the steps themselves -----------------------------------------------------------------------


def steps_of(loss, **more):
    n = len(loss)
    steps = {"loss": loss, "grad_norm": np.ones(n), "learning_rate": np.full(n, 0.1), **more}
    return steps, np.arange(0, n + 1, 10)


def test_planted_leaps_are_found_largest_first():
    rng = np.random.default_rng(0)
    loss, norm = 0.5 + 0.05 * rng.normal(size=400), np.ones(400)
    for step, height in ((150, 1.0), (300, 2.0)):
        loss[step + 1 : step + 7] += height
        norm[step] = 50.0
    found = find_spikes(*steps_of(loss, grad_norm=norm))
    assert [spike.largest for spike in found] == [300, 150]
    assert all(abs(spike.step - spike.largest) <= 3 for spike in found)
    assert found[0].height == pytest.approx(2.0, abs=0.1)
    assert found[0].level == pytest.approx(0.5, abs=0.05)


def test_noise_single_hard_batches_and_scheduled_rises_are_no_spikes():
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(30):
        loss = rng.gamma(4, 0.1, 500)
        loss[::60] += 5.0  # one hard batch here and there
        total += len(find_spikes(*steps_of(loss)))
    assert total <= 3
    loss = 0.5 + 0.02 * rng.normal(size=300)
    loss[200 : 200 + 3 * REACH] += 1.0
    rate = np.where(np.arange(300) < 198, 0.01, 0.1)
    assert len(find_spikes(*steps_of(loss))) == 1
    assert not find_spikes(*steps_of(loss, learning_rate=rate))
    assert not find_spikes(*steps_of(loss[:8]))
    (spike,) = find_spikes(*steps_of(np.where(loss > 1, np.nan, loss)))  # it diverged there
    assert 197 <= spike.step <= 199


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
@pytest.mark.parametrize("last_batch", ["keep", "merge", "drop"])
def test_the_windows_of_each_step_are_those_that_it_had(sampler, last_batch):
    lab = SmallLab(max_epochs=3, sampler=sampler, last_batch=last_batch, batch_size=7)
    steps = rows_of_steps(lab)
    assert [len(rows) for rows in steps] == lab.record.steps["n_windows"].tolist()
    # every window of the last epoch has the margin that its step gave it, others none
    begin, end = lab.record.epoch_steps[-2:]
    seen = np.isfinite(lab.record.train_margin[-1])
    np.testing.assert_array_equal(np.flatnonzero(seen), np.unique(np.concatenate(steps[begin:end])))
    counts = lab.record.class_counts.copy()
    counts[5] += [1, 0, -1]
    assert rows_of_steps(with_record(lab, class_counts=counts)) is None
    assert rows_of_steps(with_record(lab, snapshots=[])) is None


def test_windows_in_too_many_batches_are_found_and_chance_is_not():
    rng = np.random.default_rng(0)
    n_false = 0
    for _ in range(200):
        batches = [rng.permutation(300)[:16] for _ in range(8)]
        n_false += bool(windows_of_spikes(batches, 300))
    assert n_false <= 6  # by construction at most 1 % of them, 2 expected
    batches = [np.append(rng.permutation(299)[:15], 299) for _ in range(8)]
    assert windows_of_spikes(batches, 300) == [(299, 8)]
    assert windows_of_spikes([np.arange(50)] * 3, 50) == []  # full batches tell nothing
