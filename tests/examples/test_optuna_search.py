"""The Optuna example searches, prunes trials, and tests on separate robots."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import script

optuna = pytest.importorskip("optuna")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "optuna_search.py"


@pytest.fixture(scope="module")
def example():
    return script(EXAMPLE)


@pytest.fixture(scope="module")
def windows(example):
    return example.make_windows(["ice", "sand"])


def test_a_small_search_prints_its_best(example, windows, monkeypatch, capsys):
    words = ["optuna_search.py", "--trials", "2", "--epochs", "2", "--surfaces", "ice,sand"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(
        example, "make_windows", lambda names: {"ice sand": windows}[" ".join(names)]
    )
    example.main()
    printed = capsys.readouterr().out
    assert printed.startswith("2 trials, 0 of them pruned")
    for name in ("learning_rate", "hidden_size", "dropout"):
        assert re.search(rf"{name} +[\d.e-]+\n", printed)
    assert re.search(r"test accuracy  [01]\.\d{3}", printed)


def test_a_trial_that_optuna_prunes_ends_after_that_epoch(example, windows):
    epochs = []

    class Impatient(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            epochs.append(trial.last_step)
            return trial.number == 1 and trial.last_step == 2

    study = optuna.create_study(pruner=Impatient())

    def objective(trial):
        callbacks = [example.PruneByValidationLoss(trial)]
        return example.make_classifier({"hidden_size": 4}, 4, callbacks).fit(windows).best_score_

    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert epochs == [1, 2, 3, 4, 1, 2]
    reported = list(study.trials[0].intermediate_values.values())
    assert study.trials[0].value == min(reported)


def test_robots_of_the_test_part_are_in_no_other_part(windows):
    parts = {name: set(windows.part(name).groups) for name in ("train", "validation", "test")}
    assert all(parts.values())
    assert not parts["test"] & (parts["train"] | parts["validation"])
    assert np.isin(windows.y, ["ice", "sand"]).all()
