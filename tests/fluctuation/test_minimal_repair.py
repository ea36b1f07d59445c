import math
from dataclasses import replace

import numpy as np
import pytest
from fake_lab import Effect, FakeLab
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.probes.arm import ArmResult
from sensorseq.fluctuation.probes.first_weights import Repair
from sensorseq.fluctuation.probes.length import length_probe
from sensorseq.fluctuation.probes.minimal import minimal_repair
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.verify import verify

RATE = {"learning_rate": 0.0025}
CLIP = {"max_grad_norm": 1.0}
MERGE = {"last_batch": "merge"}


class RepairLab(FakeLab):
    """A run that is calm with the repairs it needs, and as restless as before without one."""

    def __init__(self, needs=(), harm=(), slow=(), **keywords):
        super().__init__(scatter=0.05, **keywords)
        self.needs, self.harm, self.slow = needs, harm, slow

    def effect_of(self, arm):
        change = dict(arm.change)
        if arm.rate_factor != 1:
            change["learning_rate"] = rounded_rate(arm.rate_factor)
        has_all = all(self._meets(need, change) for need in self.needs)
        noise = 0.1 if self.needs and has_all else 1.0
        is_slow = any(self._meets(part, change) for part in self.slow)
        return Effect(noise, 0.3 if is_slow else 0.0, 0.3 if is_slow else 0.0)

    def _run(self, arm) -> ArmResult:
        result = super()._run(arm)
        if any(self._meets(part, arm.change) for part in self.harm):
            result = replace(result, val_accuracy=result.val_accuracy - 0.2)
        return result

    @staticmethod
    def _meets(need, change):
        """Whether a change has what is needed; a lower rate than needed is as good."""
        for name, value in need.items():
            if name == "learning_rate":
                if change.get(name, 0.01) > value:
                    return False
            elif change.get(name) != value:
                return False
        return True


def rounded_rate(factor):
    return float(f"{0.01 * factor:.3g}")


def proof(cause, repair, rate_factor=1.0):
    return Proof(cause, "", repair, f"{cause} did it.", (cause,), (), rate_factor)


PROOFS = [
    proof("learning_rate", RATE, 0.25),
    proof("gradient_clipping", CLIP),
    proof("batch_size", MERGE),
]


def test_nothing_proved_changes_nothing():
    lab = RepairLab()
    change, note = minimal_repair(lab, Purse(lab, 500), [])
    assert change == {}
    assert "Nothing was proved" in note
    assert not lab.calls


def test_a_single_proof_needs_no_run():
    lab = RepairLab()
    assert minimal_repair(lab, Purse(lab, 500), PROOFS[:1]).change == RATE
    assert not lab.calls


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ([RATE], RATE),
        ([CLIP], CLIP),
        ([MERGE], MERGE),
        ([RATE, CLIP], {**RATE, **CLIP}),
        ([RATE, CLIP, MERGE], {**RATE, **CLIP, **MERGE}),
    ],
)
def test_what_is_left_is_what_is_needed(needs, expected):
    lab = RepairLab(needs)
    purse = Purse(lab, 2000)
    repair = minimal_repair(lab, purse, PROOFS)
    assert repair.change == expected
    arms = [arm for call in lab.calls for arm in call]
    assert all(arm.start is None and arm.seed == 0 for arm in arms)


def test_of_two_that_do_the_same_the_better_proved_is_kept():
    class Either(RepairLab):
        def effect_of(self, arm):
            return Effect(0.1 if arm.change else 1.0)

    lab = Either()
    repair = minimal_repair(lab, Purse(lab, 2000), PROOFS[:2])
    assert repair.change == RATE
    assert "not needed" in repair.note


def test_a_change_whose_absence_costs_accuracy_is_needed():
    class Costly(RepairLab):
        def _run(self, arm):
            result = super()._run(arm)
            loss = 0.0 if "max_grad_norm" in arm.change else 0.2
            return replace(result, val_accuracy=result.val_accuracy - loss)

    lab = Costly([RATE])
    assert minimal_repair(lab, Purse(lab, 2000), PROOFS[:2]).change == {**RATE, **CLIP}


def test_what_cannot_be_paid_for_is_kept_and_said():
    lab = RepairLab([RATE])
    repair = minimal_repair(lab, Purse(lab, 5), PROOFS[:2])
    assert repair.change == {**RATE, **CLIP}
    assert "budget" in repair.note
    assert not lab.calls


@given(budget=st.floats(0, 600), n_proofs=st.integers(0, 3), n_epochs=st.integers(12, 150))
def test_the_budget_is_never_overdrawn(budget, n_proofs, n_epochs):
    lab = RepairLab([RATE], n_epochs=n_epochs)
    purse = Purse(lab, budget)
    verify(lab, purse, PROOFS, minimal_repair(lab, purse, PROOFS[:n_proofs]))
    assert sum(arm.n_epochs for call in lab.calls for arm in call) <= budget + 1e-9


# --- from first weights -------------------------------------------------------------------------


def test_the_highest_rate_that_is_calm_is_taken():
    lab = RepairLab([{"learning_rate": 0.0025}])
    repair = verify(lab, Purse(lab, 2000), PROOFS, Repair(dict(RATE), ""))
    assert repair.change["learning_rate"] == 0.0025
    lab = RepairLab([{"learning_rate": 0.000625}])
    repair = verify(lab, Purse(lab, 2000), PROOFS, Repair(dict(RATE), ""))
    assert repair.change == {"learning_rate": 0.000625}


def test_a_decay_is_added_where_only_that_gets_on():
    lab = RepairLab([{"lr_schedule": "cosine"}])
    repair = verify(lab, Purse(lab, 2000), PROOFS, Repair(dict(RATE), ""))
    assert repair.change == {**RATE, "lr_schedule": "cosine"}


AVERAGED = {"ema_decay": 0.99}
BOTH = {**AVERAGED, "lr_schedule": "cosine"}


@pytest.mark.parametrize(("gain", "change"), [(0.0, AVERAGED), (0.2, BOTH)])
def test_a_rate_that_falls_beside_an_average_has_to_be_more_accurate(gain, change):
    class Averaging(RepairLab):
        def _run(self, arm):
            result = super()._run(arm)
            more = gain if arm.change == BOTH else 0.0
            return replace(result, val_accuracy=result.val_accuracy + more)

    lab = Averaging([AVERAGED], arguments={"ema_decay": None})
    repair = verify(lab, Purse(lab, 2000), PROOFS[:1], Repair(dict(AVERAGED), ""))
    assert repair.change == change


@pytest.mark.parametrize(
    ("tried", "words"), [("an average of the weights", "was proved"), ("a lower rate", "taken for")]
)
def test_only_what_was_run_itself_is_said_to_be_proved(tried, words):
    lab = RepairLab([AVERAGED], arguments={"ema_decay": None})
    one = replace(proof("learning_rate", AVERAGED), trials=(tried,))
    note = minimal_repair(lab, Purse(lab, 500), [one]).note
    assert words in note
    assert "names no cause" not in note
    one = replace(one, trials=("an average of the weights",), names_cause=False)
    assert "calm it, which names no cause" in minimal_repair(lab, Purse(lab, 500), [one]).note
    both = replace(one, repair=BOTH, names_cause=True)
    assert "proved, each change by itself" in minimal_repair(lab, Purse(lab, 500), [both]).note


def test_what_has_no_first_weights_is_not_called_too_dear():
    class Continued(RepairLab):
        def cost_of(self, arm):
            return math.inf if arm.start is None else super().cost_of(arm)

    lab = Continued([RATE])
    repair = verify(lab, Purse(lab, 2000), PROOFS[:1], Repair(dict(RATE), "Found."))
    assert repair.change == RATE
    assert "cannot be made in a run from first weights" in repair.note
    both = minimal_repair(lab, Purse(lab, 2000), PROOFS[:2])
    assert both.change == {**RATE, **CLIP}
    assert "budget" not in both.note
    (left,) = length_probe(lab, Purse(lab, 1e6), make_windows=lambda times: lab).not_tested
    assert "no first weights" in left.reason
    assert not lab.calls


def test_a_strength_that_is_slow_is_passed_over():
    lab = RepairLab([{"learning_rate": 0.0025}], slow=[{"learning_rate": 0.000625}])
    repair = verify(lab, Purse(lab, 2000), PROOFS, Repair({"learning_rate": 0.000625}, ""))
    assert repair.change == RATE


def test_a_repair_that_costs_accuracy_is_not_applied():
    lab = RepairLab(harm=[CLIP])
    repair = verify(lab, Purse(lab, 2000), PROOFS[1:2], Repair(dict(CLIP), "Found."))
    assert repair.change == {}
    assert "costs accuracy" in repair.note


def test_a_repair_that_could_not_be_run_is_kept_and_said():
    lab = RepairLab([RATE])
    repair = verify(lab, Purse(lab, 10), PROOFS[:1], Repair(dict(RATE), "Found."))
    assert repair.change == RATE
    assert "budget" in repair.note


def test_a_lab_without_arguments_lowers_the_rate_by_its_factor():
    lab = RepairLab([RATE])
    lab.changeable = frozenset()
    repair = verify(lab, Purse(lab, 2000), PROOFS[:1], Repair(dict(RATE), ""))
    assert repair.change["learning_rate"] == 0.0025
    factors = {arm.rate_factor for call in lab.calls for arm in call}
    assert 0.25 in factors


def test_a_change_that_cannot_be_made_here_is_kept_and_said():
    lab = RepairLab([RATE])
    lab.changeable = frozenset({"learning_rate"})
    repair = minimal_repair(lab, Purse(lab, 2000), PROOFS[:2])
    assert repair.change == {**RATE, **CLIP}
    assert "cannot be made" in verify(lab, Purse(lab, 2000), PROOFS[:2], repair).note
    assert not lab.calls


def test_a_repaired_run_that_fails_is_not_applied():
    class Failing(RepairLab):
        def effect_of(self, arm):
            return Effect(fails=bool(arm.change))

    lab = Failing()
    assert verify(lab, Purse(lab, 2000), PROOFS[1:2], Repair(dict(CLIP), "")).change == {}


def test_a_run_that_learns_at_last_may_move():
    class Learning(RepairLab):
        def effect_of(self, arm):
            return Effect(1.5, -0.5, -0.5) if arm.change else Effect()

    lab = Learning()
    assert verify(lab, Purse(lab, 2000), PROOFS[1:2], Repair(dict(CLIP), "")).change == CLIP


def test_a_repair_that_leaves_the_noise_is_not_applied():
    lab = RepairLab([{"max_grad_norm": 99.0}])  # something else
    repair = verify(lab, Purse(lab, 2000), PROOFS[1:2], Repair(dict(CLIP), ""))
    assert repair.change == {}
    assert "the noise stays" in repair.note


def test_figures_of_the_note_are_those_of_the_runs():
    lab = RepairLab([RATE])
    note = verify(lab, Purse(lab, 2000), PROOFS[:1], Repair(dict(RATE), "Found.")).note
    assert note.startswith("Found. From first weights over 66 epochs: noise ")
    before, after = (
        float(part) for part in note.split("noise ")[1].split(" nats")[0].split(" -> ")
    )
    assert np.log(after / before) == pytest.approx(np.log(0.1), abs=0.4)
