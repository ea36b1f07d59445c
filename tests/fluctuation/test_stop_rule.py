import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from sensorseq.fluctuation.probes.arm import Arm, ArmResult
from sensorseq.fluctuation.probes.noise_of_arms import (
    measure_arm,
    n_judged,
    rms_noise,
    trigamma,
    white_noise_log_sd,
)
from sensorseq.fluctuation.probes.progress_guard import weigh_levels
from sensorseq.fluctuation.probes.stop_rule import (
    LEAST_LOG_SD,
    StopRule,
    clipped,
    pair_sd,
)

LOG_CLASSES = math.log(6)
some_logs = st.lists(st.floats(-3, 3), min_size=1, max_size=6)


def decide(changed, unchanged, sd, rule):
    """Run the rule pair by pair, and return its outcome with the pairs it took."""
    for n_pairs in range(1, rule.most_pairs + 1):
        evidence = rule.evidence(changed[:n_pairs], unchanged[:n_pairs], sd)
        outcome = rule.decide(n_pairs, evidence)
        if outcome:
            return outcome, n_pairs
    raise AssertionError("the rule never ended")


def simulate(true_ratio, sd, rule, n_runs=1000):
    rng = np.random.default_rng(0)
    changed = rng.normal(math.log(true_ratio), sd / math.sqrt(2), (n_runs, rule.most_pairs))
    unchanged = rng.normal(0, sd / math.sqrt(2), (n_runs, rule.most_pairs))
    results = [decide(*pair, sd, rule) for pair in zip(changed, unchanged, strict=True)]
    outcomes, pairs = zip(*results, strict=True)
    return {name: outcomes.count(name) / n_runs for name in set(outcomes)}, np.mean(pairs)


# --- the test itself ----------------------------------------------------------------------------


def test_bounds_are_those_of_wald_the_lower_with_half_the_prior():
    low, high = StopRule().bounds
    assert low + math.log(2) == pytest.approx(-2.25, abs=0.005)
    assert high == pytest.approx(2.89, abs=0.005)


@given(differences=some_logs, sd=st.floats(0.1, 4))
def test_evidence_is_the_mean_likelihood_ratio_of_effects_up_to_three_deviations(differences, sd):
    # Against the densities themselves, pair by pair.
    half, variance = math.log(0.5), sd**2
    effects = [half] + [half * 2**k for k in range(1, 9) if 2**k * -half <= 3 * sd]

    def likelihood(effect):
        return math.exp(sum(-((d - effect) ** 2) / 2 / variance for d in differences))

    larger = [likelihood(effect) for effect in effects[1:]]
    mixed = likelihood(half)
    if larger:
        mixed = (mixed + sum(larger) / len(larger)) / 2
    zeros = [0.0] * len(differences)
    found = StopRule().evidence(differences, zeros, sd)
    if likelihood(0.0) > 1e-280 and mixed > 1e-280:
        assert found == pytest.approx(math.log(mixed / likelihood(0.0)), abs=1e-6)


@given(differences=some_logs, sd=st.floats(0.1, 4))
def test_what_is_rejected_would_be_by_the_least_effect_alone(differences, sd):
    half = math.log(0.5)
    alone = sum(half / sd**2 * (d - half / 2) for d in differences)
    rule = StopRule(most_pairs=7)
    evidence = rule.evidence(differences, [0.0] * len(differences), sd)
    if len(differences) > 1 and rule.decide(len(differences), evidence) == "rejected":
        assert alone <= math.log(rule.beta / (1 - rule.alpha)) + 1e-9


@pytest.mark.trains
@pytest.mark.parametrize("sd", [0.4, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("n_arms", [1, 4])
@pytest.mark.parametrize("effect", [math.log(0.5), -0.1])
def test_no_more_false_confirmations_than_alpha(sd, n_arms, effect):
    shares, _ = simulate(1.0, sd, StopRule(n_arms, effect))
    limit = 0.05 / n_arms
    assert shares.get("confirmed", 0) <= limit + 3 * math.sqrt(limit / 1000)


def test_a_noise_of_a_quarter_is_found_in_two_or_three_pairs():
    shares, n_pairs = simulate(0.25, 0.6, StopRule())
    assert shares["confirmed"] > 0.95
    assert 2 <= n_pairs < 3


def test_a_large_effect_is_found_where_the_scatter_is_large():
    # A noise of a twentieth between re-runs that differ by a factor of six.
    shares, n_pairs = simulate(0.05, 1.8, StopRule())
    assert shares["confirmed"] > 0.9
    assert n_pairs < 4


def test_a_halved_noise_is_seldom_rejected():
    shares, n_pairs = simulate(0.5, 0.6, StopRule())
    assert shares.get("rejected", 0) <= 0.12
    assert shares["confirmed"] > 0.6
    assert 3 < n_pairs < 6


def test_nothing_is_decided_on_a_single_pair_and_all_ends_with_the_sixth():
    rule = StopRule()
    assert rule.decide(1, 100.0) == rule.decide(1, -100.0) == ""
    assert rule.decide(6, 0.0) == "undecided"
    assert rule.decide(2, rule.bounds[1]) == "confirmed"
    assert rule.decide(2, rule.bounds[0]) == "rejected"


@given(groups=st.lists(some_logs, max_size=4))
def test_scatter_of_a_pair_is_never_below_its_floor(groups):
    assert pair_sd(groups, 0.6, LEAST_LOG_SD) >= LEAST_LOG_SD


def test_scatter_of_a_pair_is_learned_from_runs_that_are_alike():
    rng = np.random.default_rng(1)
    groups = [rng.normal(mean, 1.0, 200) for mean in (0, 5, -3)]
    assert pair_sd(groups, 0.5, LEAST_LOG_SD) == pytest.approx(math.sqrt(2), rel=0.1)


def test_one_run_far_off_cannot_prove_anything_alone():
    assert clipped([-50.0, 0.5, 50.0], [0.0, 0.1, 0.2]) == pytest.approx([-2.9, 0.5, 3.1])


# --- the noise of one re-run --------------------------------------------------------------------


def result_of(loss, averaged=0.5, n_epochs=None, failed=""):
    loss = np.asarray(loss, np.float64)
    arm = Arm("arm", len(loss) if n_epochs is None else n_epochs)
    return ArmResult(arm, loss, loss, loss[:0], loss[:0], averaged, failed=failed)


def test_rms_noise_of_white_noise_on_a_line_is_its_standard_deviation():
    values = np.random.default_rng(0).normal(0, 0.3, 40_000) + 5 - 0.01 * np.arange(40_000)
    assert rms_noise(values) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("n_points", [4, 6, 8, 10, 30])
def test_scatter_of_the_log_noise_of_white_noise(n_points):
    # Against simulation; of the fewest differences the approximation makes more, to be on the safe
    # side.
    draws = np.random.default_rng(0).normal(size=(20_000, n_points))
    noise = np.log(np.sqrt((np.diff(draws, 2, axis=1) ** 2).mean(axis=1) / 6))
    assert 0.95 < white_noise_log_sd(n_points) / noise.std() < (1.3 if n_points < 6 else 1.15)


@given(x=st.floats(0.1, 50))
def test_trigamma_is_that_of_scipy(x):
    assert trigamma(x) == pytest.approx(float(special.polygamma(1, x)), rel=1e-6)


def test_the_first_fifth_of_a_re_run_is_left_out():
    assert [n_judged(n) for n in (5, 8, 10, 15)] == [4, 6, 8, 12]
    loss = np.r_[[9.0, -3.0], np.linspace(1, 0.8, 8)]  # a leap, and then a line
    assert measure_arm(result_of(loss), LOG_CLASSES).noise_nats == pytest.approx(0, abs=1e-12)


def test_levels_are_those_of_the_second_half():
    numbers = measure_arm(result_of([9, 9, 9, 9, 9, 1, 2, 3, 2, 2], 0.7), LOG_CLASSES)
    assert (numbers.raw, numbers.averaged, numbers.failed) == (2.0, 0.7, False)


@pytest.mark.parametrize(
    "result",
    [
        result_of([1, 2, 1, 2, 1, 2, 1, 2], failed="not finite"),
        result_of([1, 2, 1, np.nan, 1, 2, 1, 2]),
        result_of([1, 2, 1, 2], n_epochs=8),
        result_of([]),
    ],
)
def test_a_run_that_broke_off_is_worse_than_any_other(result):
    broken = measure_arm(result, LOG_CLASSES)
    wild = measure_arm(result_of(1 + np.resize([0, 4], 10)), LOG_CLASSES)
    assert broken.failed
    assert broken.log_noise > wild.log_noise
    assert broken.raw > wild.raw
    assert math.isfinite(broken.log_noise)


def test_both_scales_count():
    # The same ripple in nats is no smaller for being on a lower loss.
    high = measure_arm(result_of(2 + np.resize([0, 0.1], 10)), LOG_CLASSES)
    low = measure_arm(result_of(0.1 + np.resize([0, 0.1], 10)), LOG_CLASSES)
    assert low.noise_nats == pytest.approx(high.noise_nats)
    assert low.log_noise > high.log_noise


# --- calm, and at what price --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "averaged", "reading"),
    [
        (-0.1, -0.1, "both"),
        (0.0, 0.0, "both"),
        (-0.1, math.nan, "both"),
        (-0.1, 0.1, "price"),
        (0.0, 0.1, "price"),
        (0.1, -0.1, "slower"),
        (0.1, 0.1, "slower"),
    ],
)
def test_what_the_losses_say(raw, averaged, reading):
    assert weigh_levels(raw, 0.01, averaged, 0.01, 3) == reading


def test_two_pairs_say_nothing_where_the_losses_are_near_the_margin():
    assert weigh_levels(0.0, 0.05, -0.2, 0.01, 2) == "open"
    assert weigh_levels(-0.2, 0.05, 0.05, 0.1, 2) == "open"
    assert weigh_levels(0.0, 0.05, -0.2, 0.01, 3) == "both"
