"""A module of one's own: trained as by a plain loop, and run again from its snapshots."""

import copy
import random
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from sensorseq.diagnosis import probe_module
from sensorseq.diagnosis.causes import Cause, Probes
from sensorseq.diagnosis.module import make_module
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.trials import Budget, Rerun, compare_settings
from sensorseq.errors import ArgumentError, InputError
from sensorseq.training.batches import BatchSampler
from sensorseq.training.randomness import integer_seed

N_WINDOWS, N_TIMESTEPS, N_CHANNELS, N_CLASSES = 60, 12, 2, 3
JUDGED = {"budget": 0, "random_state": 0}  # no probes


class Recurrent(nn.Module):
    """A recurrent layer, dropout, and a head on the last state."""

    def __init__(self, kind=nn.LSTM, dropout=0.0, hidden_size=6, **more):
        super().__init__()
        self.rnn = kind(N_CHANNELS, hidden_size, batch_first=True, **more)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size * (2 if more.get("bidirectional") else 1), N_CLASSES)
        self.double()

    def forward(self, X):
        return self.head(self.drop(self.rnn(X)[0][:, -1]))


class Packed(Recurrent):
    def forward(self, X, lengths):
        packed = pack_padded_sequence(X, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(N_CHANNELS, 5, 3)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, N_CLASSES)
        self.double()

    def forward(self, X):
        return self.head(torch.relu(self.norm(self.convolution(X.transpose(1, 2)))).mean(dim=2))


def make_data(seed=0, n_windows=N_WINDOWS):
    rng = np.random.default_rng(seed)
    y = np.arange(n_windows) % N_CLASSES
    X = rng.normal(size=(n_windows, N_TIMESTEPS, N_CHANNELS)) + 0.8 * y[:, None, None]
    return X, y


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


def two_groups(parameters):
    parameters = list(parameters)
    halves = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.003}]
    return torch.optim.AdamW(halves, lr=0.01, weight_decay=0.01)


def report_of(make_model=Recurrent, make_optimizer=adam, **arguments):
    X, y = make_data()
    arguments = {"max_epochs": 8, "batch_size": 16, "budget": 0, "random_state": 3, **arguments}
    return probe_module(make_model, make_optimizer, X, y, **arguments)


@cache
def usual_runner():
    """Return a runner that tests only run reruns in."""
    return report_of().origin.runner


@pytest.mark.trains
@pytest.mark.parametrize(
    ("make_model", "make_optimizer", "make_scheduler", "max_grad_norm"),
    [
        (Recurrent, adam, None, None),
        (Recurrent, two_groups, lambda optimizer: ExponentialLR(optimizer, 0.9), 0.5),
        (
            Convolution,
            lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3, alpha=0.9),
            lambda optimizer: LambdaLR(optimizer, lambda epoch: (epoch + 1) / 8),
            None,
        ),
    ],
    ids=["adam", "groups, schedule, clipping", "batch norm, warm-up"],
)
def test_trains_what_a_plain_loop_does(make_model, make_optimizer, make_scheduler, max_grad_norm):
    report = report_of(
        make_model, make_optimizer, make_scheduler=make_scheduler, max_grad_norm=max_grad_norm
    )
    runner = report.origin.runner
    train = runner.train
    X, y = torch.from_numpy(train.X), torch.from_numpy(train.target)
    model = make_module(make_model, integer_seed(runner.seeds[1])).module
    optimizer = make_optimizer(model.parameters())
    scheduler = None if make_scheduler is None else make_scheduler(optimizer)
    order_seed = runner.seeds[2].spawn(3)[0]
    batches = BatchSampler(train.target, 16, "shuffle", "keep", np.random.default_rng(order_seed))
    losses, rates = [], []
    model.train()
    for _ in range(8):
        total = 0.0
        for rows in batches:
            loss = cross_entropy(model(X[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(X))
        rates.append(optimizer.param_groups[0]["lr"])
        if scheduler is not None:
            scheduler.step()
    assert report.history["loss"] == pytest.approx(losses, rel=1e-12)
    assert report.history["learning_rate"] == pytest.approx(rates, rel=1e-15)
    trained = dict(report.origin.module.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, trained[name], rtol=1e-10, atol=1e-12), name


@pytest.mark.trains
@pytest.mark.parametrize(
    ("make_model", "make_optimizer", "scheduled"),
    [
        (lambda: Recurrent(dropout=0.4), adam, False),
        (lambda: Recurrent(nn.GRU, dropout=0.2), two_groups, True),
        (Convolution, adam, True),
    ],
    ids=["dropout", "groups", "batch norm"],
)
def test_an_unchanged_rerun_has_the_bits_of_the_run(make_model, make_optimizer, scheduled):
    scheduler = (lambda optimizer: ExponentialLR(optimizer, 0.9)) if scheduled else None
    report = report_of(make_model, make_optimizer, make_scheduler=scheduler)
    (whole,) = report.origin.runner.run([Rerun("whole", 8)])
    assert (whole.fixed_loss == report.record.fixed_loss).all()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.NAdam, torch.optim.RMSprop])
def test_the_end_is_trained_again_as_by_a_plain_loop(kind):
    report = report_of(make_optimizer=lambda parameters: kind(parameters, lr=0.01))
    runner, start = report.origin.runner, 2
    snapshot = runner.record.snapshots[start]
    (rerun,) = runner.run([Rerun("end", 3, start=start)])
    train = runner.train
    X, y = torch.from_numpy(train.X), torch.from_numpy(train.target)
    module = make_module(Recurrent, 0)
    module.load_state_dict(snapshot.state["module"])
    optimizer = kind(module.parameters(), lr=0.01)
    optimizer.load_state_dict(copy.deepcopy(snapshot.state["optimizer"]))
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    scheduler = CosineAnnealingLR(optimizer, T_max=3)
    seed = np.random.SeedSequence([runner.entropy, start, 1]).spawn(3)[0]
    batches = BatchSampler(train.target, 16, "shuffle", "keep", np.random.default_rng(seed))
    rows, losses = runner.record.fixed_rows, []
    for _ in range(3):
        module.train()
        for batch in batches:
            optimizer.zero_grad()
            cross_entropy(module(X[batch]), y[batch]).backward()
            optimizer.step()
        scheduler.step()
        with torch.no_grad():
            losses.append(cross_entropy(module.eval()(X[rows]), y[rows]).item())
    tolerance = 1e-6 if kind is torch.optim.NAdam else 1e-10  # torch's own loading rounds its state
    assert rerun.fixed_loss == pytest.approx(losses, rel=tolerance)


def test_the_same_rerun_gives_the_same_and_another_start_another_order():
    reruns = [Rerun("end", 3, 1), Rerun("end again", 3, 1), Rerun("later", 3, 2), Rerun("whole", 3)]
    one, same, *others = [result.fixed_loss.tolist() for result in usual_runner().run(reruns)]
    assert one == same
    assert len({tuple(losses) for losses in (one, *others)}) == 3


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"batch_size": 8}, lambda steps: steps["n_windows"].max() == 8),
        ({"batch_size": None}, lambda steps: len(steps["n_windows"]) == 2),
        ({"last_batch": "drop"}, lambda steps: (steps["n_windows"] == 16).all()),
        ({"learning_rate": 0.005}, lambda steps: np.allclose(steps["learning_rate"], 0.005)),
        (
            {"lr_schedule": "cosine"},
            lambda steps: np.allclose(steps["learning_rate"], [0.02] * 3 + [0.01] * 3),
        ),
    ],
    ids=["smaller batches", "one batch", "last batch", "rate", "cosine"],
)
def test_a_rerun_changes_what_it_names(change, check):
    runner = usual_runner()
    assert set(change) <= runner.changeable
    (result,) = runner.run([Rerun("changed", 2, change=change)])
    assert not result.failed
    assert check(result.record.steps), result.record.steps


def test_a_shorter_rerun_reads_the_schedule_at_its_pace():
    halving = partial(ExponentialLR, gamma=0.5)
    runner = report_of(make_optimizer=two_groups, make_scheduler=halving).origin.runner
    (rerun,) = runner.run([Rerun("half as long", 4)])
    rates = rerun.record.steps["learning_rate"][:: runner.steps_per_epoch]
    assert rates == pytest.approx(0.01 * 0.5 ** np.array([0, 2, 4, 6]))


def test_clipping_and_weight_decay_reach_the_step():
    optimizer = partial(torch.optim.SGD, lr=0.1, weight_decay=0.0)
    runner = report_of(make_optimizer=optimizer).origin.runner
    changes = {"plain": {}, "clipped": {"max_grad_norm": 1e-9}, "decayed": {"weight_decay": 0.5}}
    reruns = [Rerun(name, 2, change=change) for name, change in changes.items()]
    plain, clipped, decayed = runner.run(reruns)
    assert np.ptp(clipped.fixed_loss) < 1e-6 < np.ptp(plain.fixed_loss)
    assert (decayed.fixed_loss != plain.fixed_loss).all()


def test_the_kept_weights_are_the_last():
    report = report_of(lambda: Recurrent(dropout=0.5))
    runner, record = report.origin.runner, report.record
    module = runner.kept_module()
    assert not module.training
    assert runner.kept_epoch == record.n_epochs
    rows = record.fixed_rows
    with torch.no_grad():
        outputs = module(torch.from_numpy(runner.train.X[rows]), None)
    loss = cross_entropy(outputs, torch.from_numpy(runner.train.target[rows])).item()
    assert loss == pytest.approx(record.fixed_loss[-1], rel=1e-12)


def test_the_same_seed_gives_the_same_report_and_leaves_the_generators():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    first, second = (report_of(lambda: Recurrent(dropout=0.3)) for _ in range(2))
    first.origin.runner.run([Rerun("one", 2, 1), Rerun("new", 2)])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert first.history["loss"] == second.history["loss"]
    other = report_of(lambda: Recurrent(dropout=0.3), random_state=4)
    assert first.history["loss"] != other.history["loss"]


def test_whole_groups_are_held_out_and_kept():
    X, y = make_data()
    groups = np.repeat([f"run {i}" for i in range(10)], 6)
    report = probe_module(Recurrent, adam, X, y, groups=groups, max_epochs=2, **JUDGED)
    runner = report.origin.runner
    assert not set(runner.train.groups) & set(runner.validation.groups)
    rows = np.concatenate([runner.train.rows, runner.validation.rows])
    assert sorted(rows) == list(range(len(y)))
    assert (groups[runner.validation.rows] == runner.validation.groups).all()
    assert (y[runner.train.rows] == runner.train.target).all()
    assert len(report.record.val_groups) == len(runner.validation.target)
    assert report.n_val == len(runner.validation.target)


def test_lengths_reach_a_module_that_takes_them_and_padding_does_not():
    X, y = make_data()
    lengths = np.random.default_rng(0).integers(3, N_TIMESTEPS + 1, len(X))
    for step in range(N_TIMESTEPS):
        X[lengths <= step, step] = np.nan
    report = probe_module(Packed, adam, X, y, lengths=lengths, max_epochs=3, **JUDGED)
    assert np.isfinite(report.history["loss"]).all()
    sequences = [window[:n] for window, n in zip(X, lengths, strict=True)]
    same = probe_module(Packed, adam, sequences, y, max_epochs=3, **JUDGED)
    assert same.history["loss"] == report.history["loss"]


def test_names_of_classes_and_a_smoothed_loss_are_read():
    X, y = make_data()
    names = np.array(["asphalt", "grass", "sand"])[y]
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.2)
    report = probe_module(Recurrent, adam, X, names, loss=smoothed, max_epochs=2, **JUDGED)
    runner = report.origin.runner
    assert list(runner.classes) == ["asphalt", "grass", "sand"]
    assert runner.arguments["label_smoothing"] == 0.2
    assert (runner.train.target == y[runner.train.rows]).all()


SHARED = Recurrent()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"make_model": lambda: SHARED}, "same module"),
        ({"make_model": lambda: nn.Sequential(SHARED)}, "same parameters"),
        ({"make_model": lambda: None}, "make_model returned NoneType"),
        ({"make_model": nn.Identity}, "without a parameter"),
        ({"make_model": lambda: nn.LSTM(2, 3, batch_first=True).double()}, "tuple"),
        ({"make_model": lambda: nn.Linear(2, 3).double()}, r"\(2, 12, 3\)"),
        ({"make_optimizer": lambda p: None}, "make_optimizer returned NoneType"),
        ({"make_optimizer": lambda p: adam(Recurrent().parameters())}, "other parameters"),
        ({"make_optimizer": torch.optim.LBFGS}, "closure"),
        ({"make_scheduler": ReduceLROnPlateau}, "known beforehand"),
        ({"make_scheduler": lambda o: OneCycleLR(o, 0.1, total_steps=50)}, "cycle_momentum=False"),
        ({"loss": nn.MSELoss()}, "cross-entropy"),
        ({"loss": nn.CrossEntropyLoss(weight=torch.ones(3))}, "weights"),
        ({"budget": -1}, "budget"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_probed_is_refused_with_the_reason(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        report_of(**{"make_model": Recurrent, **arguments})


def test_labels_that_do_not_fit_are_refused():
    X, y = make_data()
    for labels, error, message in (
        (np.arange(len(y)) % 5, ArgumentError, "3 logits, and y has 5 classes"),
        (y[:-1], InputError, "y has shape"),
        (y + 0.5, InputError, "floating-point"),
    ):
        with pytest.raises(error, match=message):
            probe_module(Recurrent, adam, X, labels, budget=0)


def test_a_rerun_that_breaks_says_why_and_the_others_go_on():
    class Breaking(Recurrent):
        def forward(self, X):
            if len(X) == 7:
                raise RuntimeError("seven windows are too many")
            return super().forward(X)

    runner = report_of(Breaking).origin.runner
    broken, whole = runner.run(
        [Rerun("sevens", 1, change={"batch_size": 7}), Rerun("as it was", 1)]
    )
    assert broken.failed == "seven windows are too many"
    assert not whole.failed


def test_a_rerun_may_not_change_what_is_not_known_here():
    runner = usual_runner()
    assert "hidden_size" not in runner.changeable
    with pytest.raises(ArgumentError, match="hidden_size"):
        runner.run([Rerun("larger", 1, change={"hidden_size": 8})])


def test_the_probes_get_the_runner_and_recommendations_are_in_words(monkeypatch):
    met = {}

    def probe_runner(runner, report, budget, fit_s):
        met.update(runner=runner, budget=budget, fit_s=fit_s)
        causes = (
            Cause("learning_rate", "proved", "", recommendation={"learning_rate": 0.005}),
            Cause("batch_size", "suspected", "", recommendation={"batch_size": 64}),
        )
        probes = Probes(budget, repair={"learning_rate": 0.005}, note="It was proved.")
        return replace(report, causes=causes, probes=probes)

    monkeypatch.setattr("sensorseq.diagnosis.module.probe_runner", probe_runner)
    report = report_of(budget=0.5)
    assert met["budget"] == 0.5
    assert met["fit_s"] > 0
    assert met["runner"] is report.origin.runner
    rate, batch = report.causes
    assert (rate.recommendation, rate.advice) == ({}, "Take lr=0.005 in the optimizer.")
    assert (batch.recommendation, batch.advice) == ({}, "Take DataLoader(batch_size=64).")
    assert report.probes.note == "Take lr=0.005 in the optimizer. It was proved."
    assert report.probes.repair == {}
    assert report.origin.repair == {"learning_rate": 0.005}
    with pytest.raises(ArgumentError, match=r"lr=0.005"):
        report.apply()
    assert "clf" not in str(report)


def test_other_settings_are_compared_on_it():
    report = report_of(
        make_optimizer=lambda parameters: torch.optim.RMSprop(parameters, lr=0.1), max_epochs=16
    )
    runner = report.origin.runner
    budget = Budget(runner, 600.0)
    result = compare_settings(runner, budget, [Cause("learning_rate", "suspected", "")])
    assert budget.spent <= 600
    assert {entry.option.change.get("learning_rate") for entry in result.outcomes} > {0.01, 1.0}
    trained = [entry for entry in result.outcomes if entry.cost_epochs]
    assert all(set(entry.option.change) <= runner.changeable for entry in trained)
    assert all(np.isfinite(entry.score) for entry in result.outcomes)


def test_the_whole_comes_to_a_report_that_can_be_written(tmp_path):
    report = report_of(
        make_optimizer=lambda parameters: torch.optim.RMSprop(parameters, lr=0.1),
        max_epochs=20,
        budget=1.0,
    )
    assert report.probes is not None
    assert report.probes.budget == 1.0
    assert "evaluation_not_deterministic" in {trial.cause for trial in report.probes.trials}
    assert not any(cause.recommendation for cause in report.causes)
    assert not report.probes.repair
    report.to_html(tmp_path / "report.html")
    described = report.to_dict()
    assert FluctuationReport.from_dict(described).to_dict() == described
