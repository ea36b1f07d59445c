import math
from dataclasses import replace

import numpy as np
import pytest
from fake_lab import Effect, FakeLab
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.probes.candidate import RACED
from sensorseq.fluctuation.probes.probe import without_trial
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.race import race
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.start import choose_snapshot

CALMER = Effect(0.15, -0.1, -0.1)
PRICE = Effect(0.15, -0.02, 0.12)
SLOWER = Effect(0.15, 0.3, 0.3)
RATE, BATCH, DECAY = "learning_rate / 4", "batch_size 32 -> 128", "a decaying learning rate"
AVERAGING = "an average of the weights"


def causes_of(**confidence):
    return [Cause(name, "observed", value, "") for name, value in confidence.items()]


def run(lab, budget=200.0, verdict="fluctuating", **confidence):
    purse = Purse(lab, budget)
    findings = race(lab, purse, causes_of(**(confidence or {"learning_rate": 0.6})), verdict)
    assert purse.spent <= budget
    return findings


def outcomes(findings):
    return {trial.name: trial.outcome for trial in findings.trials}


def proved(findings):
    return {(proof.cause, proof.finding) for proof in findings.proofs}


# --- error rates --------------------------------------------------------------------------------


@pytest.mark.trains
@pytest.mark.parametrize("scatter", [0.0, 0.35])
def test_changes_without_effect_are_seldom_proved(scatter):
    n_labs = 60
    wrong = 0
    for seed in range(n_labs):
        lab = FakeLab(seed=seed, scatter=scatter)
        wrong += bool(run(lab, learning_rate=0.5, gradient_clipping=0.4, optimizer=0.3).proofs)
    assert wrong <= 0.05 * n_labs + 2 * math.sqrt(0.05 * 0.95 * n_labs)


def test_a_rate_too_high_is_found():
    found = 0
    for seed in range(20):
        lab = FakeLab({RATE: CALMER, BATCH: CALMER}, seed=seed)
        found += ("learning_rate", "too high") in proved(run(lab))
    assert found >= 17


def test_a_noise_that_pays_is_seldom_taken_for_a_wrong_rate():
    wrong = 0
    for seed in range(20):
        lab = FakeLab({RATE: PRICE, BATCH: PRICE, DECAY: Effect(0.1, -0.12, 0.03)}, seed=seed)
        wrong += bool(proved(run(lab)) - {("learning_rate", "schedule missing")})
    assert wrong <= 2


def test_a_calm_run_confirms_nothing():
    for seed in range(10):
        lab = FakeLab({RATE: CALMER, BATCH: CALMER, DECAY: CALMER}, noise=0.008, seed=seed)
        findings = run(lab)
        assert not findings.proofs
        assert set(outcomes(findings).values()) == {"undecided"}
        assert "calm" in findings.trials[0].sentence


# --- the branches of the rule -------------------------------------------------------------------


def test_of_another_loss_a_calm_accuracy_confirms_nothing():
    lab = FakeLab({RATE: CALMER}, noise=0.01)
    lab.record.loss_unit = ""
    lab.record.fixed_accuracy = 0.7 + 0.3 * (lab.record.fixed_loss - lab.level)
    findings = run(lab, 300)
    assert set(outcomes(findings).values()) == {"undecided"}
    for trial in findings.trials:
        assert "not judged" in trial.sentence
        assert "of the accuracy per epoch" in trial.sentence


def test_calmer_and_lower_proves_the_rate_with_the_batch_as_equivalent():
    findings = run(FakeLab({RATE: CALMER, BATCH: CALMER}), 300)
    assert outcomes(findings)[RATE] == "confirmed"
    (proof,) = findings.proofs
    assert (proof.cause, proof.finding) == ("learning_rate", "too high")
    assert proof.repair == {"learning_rate": 0.0025}
    assert {"batch_size": 128} in proof.alternatives


def test_calmer_at_the_price_of_progress_proves_that_a_schedule_is_missing():
    effects = {RATE: PRICE, BATCH: PRICE, DECAY: Effect(0.1, -0.15, 0.03)}
    findings = run(FakeLab(effects), 400)
    assert outcomes(findings)[RATE] == "rejected"
    assert outcomes(findings)[DECAY] == "confirmed"
    (proof,) = findings.proofs
    assert (proof.finding, proof.repair) == ("schedule missing", {"lr_schedule": "cosine"})
    rejected = next(trial for trial in findings.trials if trial.name == RATE)
    assert "price of progress" in rejected.sentence


class Averaging(FakeLab):
    """A run that can take an average of its weights, which is so many nats better than the last."""

    def __init__(self, effects, gain=0.1, ema_decay=None, left=0.1, **options):
        arguments = {"ema_decay": ema_decay}
        # over the second half of a re-run, the mean of averages lags behind that of the weights
        effects = {AVERAGING: Effect(left, -gain, 0.1)} | effects
        super().__init__(effects, arguments=arguments, **options)
        self.gain = gain

    def _run(self, arm):
        result = super()._run(arm)
        return replace(result, averaged_loss=result.averaged_loss + 0.1 - self.gain)


FALLING, AVERAGED = {"lr_schedule": "cosine"}, {"ema_decay": 0.99}


@pytest.mark.parametrize(
    ("gain_of_decay", "options", "repair"),
    [
        (0.15, {}, AVERAGED),
        (0.5, {}, FALLING | AVERAGED),
        (0.15, {"gain": -0.05}, FALLING),
        (0.15, {"ema_decay": 0.9}, FALLING),
    ],
)
def test_noise_is_averaged_away_before_the_rate_is_touched(gain_of_decay, options, repair):
    effects = {RATE: PRICE, BATCH: PRICE, DECAY: Effect(0.1, -gain_of_decay, 0.03)}
    (proof,) = run(Averaging(effects, **options), 400).proofs
    assert (proof.cause, proof.finding) == ("learning_rate", "schedule missing")
    assert proof.repair == repair
    assert (FALLING in proof.alternatives) == (repair != FALLING)
    assert ("average of the weights" in proof.sentence) == (repair != FALLING)
    cause = Cause("learning_rate", "observed", 0.6, "", "schedule missing", FALLING, advice="Fall.")
    (told,) = [one for one in regrade([cause], [], [proof]) if one.name == cause.name]
    assert told.recommendation == repair
    assert told.advice == ("Fall." if repair == FALLING else "")


def test_on_another_loss_nothing_is_weighed_in_nats():
    lab = Averaging({DECAY: Effect(0.1, -0.3, -0.3)})
    lab.record.loss_unit = ""
    lab.record.fixed_accuracy = 0.7 - 0.3 * (lab.record.fixed_loss - lab.level)
    (proof,) = run(lab, 400).proofs
    assert proof.repair == FALLING
    assert "nats" not in proof.sentence


@pytest.mark.parametrize("left", [0.4, 0.1])
def test_what_noise_a_lower_rate_leaves_is_averaged_away(left):
    lower = Effect(left, -0.2, -0.2)
    lab = Averaging({RATE: lower, BATCH: lower, "learning_rate / 16": Effect(left, 0.3, 0.3)})
    (proof,) = run(lab, 300).proofs
    assert proof.repair == {"learning_rate": 0.0025} | AVERAGED
    assert AVERAGED in proof.alternatives
    assert {RATE, AVERAGING} <= set(proof.trials)


def test_an_average_that_gains_as_much_is_the_smaller_change():
    (proof,) = run(Averaging({RATE: CALMER, BATCH: CALMER, DECAY: CALMER}), 400).proofs
    assert (proof.cause, proof.finding) == ("learning_rate", "schedule missing")
    assert proof.repair == AVERAGED
    assert {"learning_rate": 0.0025} in proof.alternatives
    assert AVERAGING in proof.trials
    of_average = proof.sentence.split("It leaves every step as it was")[0]
    assert of_average.startswith(f"With {AVERAGING}")
    assert of_average.count("With ") == 1


def test_an_average_alone_proves_the_noise_of_the_steps():
    (proof,) = run(Averaging({}), 300).proofs
    assert (proof.cause, proof.repair) == ("learning_rate", AVERAGED)
    (proof,) = run(Averaging({"batch_size 2 -> 8": CALMER}, batch_size=2), 300).proofs
    assert (proof.cause, proof.finding, proof.repair) == ("batch_size", "too small", AVERAGED)
    assert "batches of 2 are small" in proof.sentence


def test_what_is_proved_is_not_said_to_be_untested():
    lab = Averaging({RATE: CALMER}, batch_size=2)
    lab.changeable -= {"batch_size"}  # so that no re-run has another
    findings = run(lab, 300)
    assert findings.proofs[0].cause == "batch_size"
    assert "batch_size" in {part.cause for part in findings.not_tested}
    assert "batch_size" not in {part.cause for part in without_trial(findings)}


def test_an_average_of_a_noise_that_costs_nothing_repairs_and_names_no_cause():
    findings = run(Averaging({}, gain=0.01, wobble=0.0), 300)
    (proof,) = findings.proofs
    assert proof.repair == AVERAGED
    assert not proof.names_cause
    assert "names no cause" in findings.trials[0].sentence
    costly = run(Averaging({}, wobble=0.0), 300)
    assert costly.proofs[0].names_cause
    assert "names no cause" not in costly.trials[0].sentence


LOWER = Effect(0.1, -0.02, -0.02)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        (RATE, ("learning_rate", "too high")),
        (DECAY, ("learning_rate", "schedule missing")),
        (BATCH, ("batch_size", "too small")),
    ],
)
def test_beside_an_average_the_cause_is_that_of_what_else_passed(name, named):
    lab = Averaging({name: LOWER}, 0.01, wobble=0.0, scatter=0.0)
    (proof,) = run(lab, 900, learning_rate=0.5, batch_size=0.5).proofs
    assert name in proof.trials
    assert (proof.cause, proof.finding) == named
    assert proof.names_cause
    assert proof.repair == AVERAGED


def test_an_average_that_names_no_cause_stands_by_none():
    slower = {RATE: SLOWER, BATCH: SLOWER, DECAY: SLOWER}
    findings = run(Averaging(slower, 0.01, wobble=0.0, scatter=0.0), 900)
    assert outcomes(findings)[AVERAGING] == "confirmed"
    causes = regrade(causes_of(learning_rate=0.6), findings.trials, findings.proofs)
    assert {cause.name: cause.grade for cause in causes}["learning_rate"] == "rejected"


def test_what_names_no_cause_is_not_joined_to_what_does():
    balanced = {"sampler": "balanced"}
    effects = {"class-balanced batches": CALMER}
    lab = Averaging(effects, 0.01, batch_size=6, n_train=44, wobble=0.0, scatter=0.0)
    proofs = run(lab, 900, batch_size=0.6).proofs
    assert [proof.repair for proof in proofs if proof.names_cause] == [balanced]
    assert [proof.repair for proof in proofs if not proof.names_cause] == [AVERAGED]


def test_an_average_that_leaves_the_noise_or_costs_loss_is_not_in_any_repair():
    worse = Effect(0.4, -0.2, -0.2)
    lab = Averaging({RATE: worse, BATCH: worse}, left=1.0, scatter=0.0)
    findings = run(lab, 400)
    assert outcomes(findings)[AVERAGING] == "rejected"
    (proof,) = findings.proofs
    assert proof.repair == {"learning_rate": 0.0025}
    findings = run(Averaging({}, gain=-0.3), 300)
    assert outcomes(findings)[AVERAGING] == "rejected"
    assert "lags behind" in findings.trials[0].sentence
    assert not findings.proofs


class Continued(FakeLab):
    """A fit that went on from another: none of its runs can begin where it began."""

    def cost_of(self, arm):
        return math.inf if arm.start is None else super().cost_of(arm)


def test_only_what_needs_first_weights_is_said_to_miss_them():
    causes = {"learning_rate": 0.6, "weight_init": 0.5}
    for budget, why in ((3, "budget"), (300, "")):
        findings = run(Continued({RATE: CALMER, BATCH: CALMER}), budget, **causes)
        left = {part.cause: part.reason for part in findings.not_tested}
        assert "no first weights" in left["weight_init"]
        assert ("learning_rate" in left) == bool(why)
        assert why in left.get("learning_rate", "")
        assert not [
            name for name, why in left.items() if name != "weight_init" and "first w" in why
        ]


def test_a_decay_that_gains_nothing_proves_no_missing_schedule():
    findings = run(FakeLab({DECAY: Effect(0.1, 0.0, 0.0)}), 400)
    assert outcomes(findings)[DECAY] == "rejected"
    assert not findings.proofs


def test_of_a_falling_and_a_lower_rate_that_do_alike_the_falling_one_is_named():
    lab = FakeLab({DECAY: Effect(0.1, -0.03, -0.03), RATE: Effect(0.1, -0.01, -0.01)})
    findings = run(lab, 400)
    if outcomes(findings)[RATE] == outcomes(findings)[DECAY] == "confirmed":
        assert ("learning_rate", "schedule missing") in proved(findings)
    trial = next(trial for trial in findings.trials if trial.name == DECAY)
    assert ("gains nothing" in trial.sentence) == (trial.outcome == "rejected")


def test_calmer_but_slower_is_rejected():
    findings = run(FakeLab({RATE: SLOWER, BATCH: SLOWER}), 300)
    assert outcomes(findings)[RATE] == outcomes(findings)[BATCH] == "rejected"
    assert "merely slower" in findings.trials[0].sentence
    assert not findings.proofs


def test_a_change_that_diverges_is_rejected_and_no_error():
    findings = run(FakeLab({RATE: Effect(fails=True)}), 300)
    trial = next(trial for trial in findings.trials if trial.name == RATE)
    assert trial.outcome == "rejected"
    assert "diverged" in trial.sentence


def test_small_batches_are_blamed_by_their_position():
    name = "batch_size 2 -> 8"
    lab = FakeLab({RATE: CALMER, name: CALMER}, batch_size=2)
    (proof,) = run(lab, 400, learning_rate=0.5, batch_size=0.4).proofs
    assert (proof.cause, proof.repair) == ("batch_size", {"batch_size": 8})
    assert {"learning_rate": 0.0025} in proof.alternatives


def test_the_configuration_alone_blames_nothing():
    # The same small batches, and re-runs that say they do not matter.
    lab = FakeLab(batch_size=2)
    assert not run(lab, 400, learning_rate=0.5, batch_size=0.4).proofs


def test_a_larger_batch_that_alone_helps_is_the_batch():
    (proof,) = run(FakeLab({BATCH: CALMER}), 500, learning_rate=0.4, batch_size=0.5).proofs
    assert (proof.cause, proof.repair) == ("batch_size", {"batch_size": 128})


def test_clipping_is_proved_by_a_loss_that_is_lower_by_far():
    name = "gradients clipped at 1.88"  # the 75 % point of the norms before the snapshot
    findings = run(FakeLab({name: Effect(0.8, -0.3, -0.3)}), gradient_clipping=0.6)
    assert ("gradient_clipping", "missing") in proved(findings)
    findings = run(FakeLab({name: Effect(3.0, -0.3, -0.3)}, scatter=0), gradient_clipping=0.6)
    assert not findings.proofs  # lower, and by far noisier


def test_unscaled_input_comes_before_a_rate_that_passes_as_well():
    lab = FakeLab({RATE: CALMER, "input scaled, the function kept": CALMER})
    findings = run(lab, 400, learning_rate=0.5, preprocessing=0.4)
    assert [proof.cause for proof in findings.proofs] == ["preprocessing", "learning_rate"]


def test_another_optimizer_is_no_cause_where_a_lower_rate_does_the_same():
    lab = FakeLab({RATE: CALMER, "Adam, rate 0.000809": CALMER})
    findings = run(lab, 400, learning_rate=0.5, optimizer=0.45)
    assert "optimizer" not in {proof.cause for proof in findings.proofs}


def test_arms_that_restart_the_optimizer_are_held_against_one_that_does_as_well():
    lab = FakeLab()
    run(lab, 300, optimizer=0.6)
    arms = [arm for call in lab.calls for arm in call]
    adam = [arm for arm in arms if "optimizer" in arm.change]
    beside = [arm for arm in arms if arm.name == "unchanged, optimizer restarted"]
    assert adam
    assert all(arm.restarts_optimizer for arm in (*adam, *beside))
    assert {arm.seed for arm in adam} <= {arm.seed for arm in beside}


def test_less_dropout_has_to_prove_itself_on_the_validation_windows():
    findings = run(FakeLab({"no dropout": SLOWER}), 300, dropout_noise=0.6)
    assert outcomes(findings)["no dropout"] == "rejected"
    findings = run(FakeLab({"no dropout": CALMER}), 300, dropout_noise=0.6)
    assert ("dropout_noise", "too strong") in proved(findings)


# --- runs that learn nothing --------------------------------------------------------------------


def test_a_run_that_learns_nothing_is_judged_by_the_loss_it_reaches():
    lab = FakeLab({"learning_rate x 10": Effect(2.0, -0.8, -0.8)}, level=1.79, noise=0.01)
    findings = run(lab, 300, "not_learning", learning_rate=0.3, weight_init=0.3)
    assert proved(findings) == {("learning_rate", "too low")}
    assert all(arm.start is None for call in lab.calls for arm in call)


def test_a_run_that_diverges_is_judged_against_the_divergence():
    lab = FakeLab({"unchanged": Effect(fails=True), "learning_rate / 10": Effect(1.0)})
    effects = {"learning_rate / 10": Effect(), "usual first weights": Effect(fails=True)}
    lab.effects.update(effects)
    findings = run(lab, 300, "diverged", learning_rate=0.3, weight_init=0.3)
    assert proved(findings) == {("learning_rate", "too high")}


def test_first_weights_are_tried_from_first_weights():
    lab = FakeLab({"usual first weights": CALMER})
    findings = run(lab, 300, weight_init=0.6)
    assert {proof.cause for proof in findings.proofs} == {"weight_init"}
    assert findings.trials[0].kind == "init"
    assert {arm.seed for call in lab.calls for arm in call} >= {0, 1}


# --- what is run, and what it costs -------------------------------------------------------------


@given(
    budget=st.floats(0, 250),
    n_epochs=st.integers(12, 150),
    seed=st.integers(0, 5),
    weights=st.dictionaries(st.sampled_from(RACED), st.floats(0, 1), max_size=5),
    verdict=st.sampled_from(["fluctuating", "not_learning", "diverged"]),
    kind=st.sampled_from([FakeLab, Averaging]),
)
def test_the_budget_is_never_overdrawn_and_every_cause_accounted_for(
    budget, n_epochs, seed, weights, verdict, kind
):
    lab = kind({RATE: CALMER}, n_epochs=n_epochs, seed=seed)
    findings = run(lab, budget, verdict, **weights) if weights else run(lab, budget, verdict)
    spent = sum(lab.cost_of(arm) for call in lab.calls for arm in call)
    assert spent <= budget
    assert sum(trial.cost_epochs for trial in findings.trials) == pytest.approx(spent)
    named = {trial.cause for trial in findings.trials} | {
        part.cause for part in findings.not_tested
    }
    assert named == set(RACED)
    assert all(0 < trial.n_pairs <= 6 for trial in findings.trials)
    for call in lab.calls:
        for arm in call:
            if arm.start is not None:
                assert lab.record.snapshots[arm.start].epoch + arm.n_epochs <= n_epochs


def test_a_round_is_one_call_and_the_first_has_another_order_of_the_unchanged():
    lab = FakeLab()
    findings = run(lab, 200, learning_rate=0.6)
    first = lab.calls[0]
    unchanged = [arm.seed for arm in first if arm.name == "unchanged"]
    assert unchanged == [1]  # the run itself is there already
    changed = [arm for arm in first if arm.name != "unchanged"]
    assert len(changed) >= 2
    assert {arm.seed for arm in changed} == {unchanged[0]}
    trial = findings.trials[0]
    assert len(trial.curves["A"]) == 1
    assert len(trial.curves["A'"]) >= 1
    assert len(trial.curves["B"]) == trial.n_pairs
    assert len(trial.evidence_ratio) == trial.n_pairs
    assert len({(arm.name, arm.seed) for call in lab.calls for arm in call}) == sum(
        len(call) for call in lab.calls
    )


def test_the_same_race_gives_the_same_findings():
    one, two = (run(FakeLab({RATE: CALMER}), 150) for _ in range(2))
    assert one == two


def test_nothing_is_tried_that_cannot_be_changed_or_was_so_anyway():
    lab = FakeLab(arguments={"optimizer": "adam", "max_grad_norm": 0.01, "lr_schedule": "cosine"})
    findings = run(lab, 400, optimizer=0.5, gradient_clipping=0.5, learning_rate=0.5)
    assert not {"optimizer", "gradient_clipping"} & {trial.cause for trial in findings.trials}
    assert DECAY not in outcomes(findings)
    why = {part.cause: part.reason for part in findings.not_tested}
    assert "no argument" in why["optimizer"]


def test_a_foreign_network_is_raced_without_its_arguments():
    lab = FakeLab({RATE: CALMER})
    lab.arguments, lab.changeable = {}, frozenset()
    (proof,) = run(lab, 300).proofs
    assert (proof.repair, proof.rate_factor) == ({}, 0.25)


def test_sentence_and_figures_agree():
    lab = FakeLab({RATE: CALMER})
    trial = run(lab, 60).trials[0]
    assert trial.sentence.startswith(f"With {RATE}: noise x{trial.noise_ratio:.2f} (")
    assert f"better by {-trial.raw_change:.2f}" in trial.sentence
    assert trial.noise_ratio == pytest.approx(0.15, rel=0.6)
    assert trial.evidence_ratio[-1] >= trial.bounds[1]


# --- where it starts ----------------------------------------------------------------------------


def test_the_latest_snapshot_with_room_is_taken():
    assert choose_snapshot(FakeLab(n_epochs=100), 10) == 4
    assert choose_snapshot(FakeLab(n_epochs=100), 30) == 3
    assert choose_snapshot(FakeLab(n_epochs=100), 90) is None


def test_of_a_run_that_calmed_down_the_restless_half_is_taken():
    lab = FakeLab(n_epochs=100)
    rng = np.random.default_rng(0)
    lab.record.fixed_loss = 1 + rng.normal(0, 1, 100) * np.where(np.arange(100) < 50, 0.2, 0.002)
    assert choose_snapshot(lab, 10) == 2


def test_what_nothing_speaks_for_is_given_up_once_another_change_is_proved():
    lab = FakeLab({RATE: Effect(0.05, -0.1, -0.1)})
    findings = run(lab, 1000, learning_rate=0.6, gradient_clipping=0.5)
    pairs = {trial.name: trial.n_pairs for trial in findings.trials}
    clipped = next(trial for trial in findings.trials if trial.cause == "gradient_clipping")
    assert clipped.outcome in ("rejected", "undecided")
    assert pairs[clipped.name] <= pairs[RATE] + 2


def test_without_a_likely_cause_the_learning_rate_is_tried():
    assert RATE in outcomes(run(FakeLab(), 100, unknown=0.9))


def test_a_rejected_cause_is_not_tried_again():
    lab = FakeLab()
    causes = [Cause("gradient_clipping", "rejected", 0.6, ""), *causes_of(learning_rate=0.5)]
    findings = race(lab, Purse(lab, 400), causes)
    assert "gradient_clipping" not in {trial.cause for trial in findings.trials}
