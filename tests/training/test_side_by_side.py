"""Runs trained side by side have bitwise the same results and records as runs trained alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fits import without_time
from training_jobs import assert_same_record, copy_of, make_data, make_job

import sensorseq.training.native as native
import sensorseq.training.side_by_side as side_by_side
from sensorseq.training import train_network
from sensorseq.training.callbacks import HOOKS
from sensorseq.training.recorder import Recorder
from sensorseq.training.side_by_side import train_side_by_side

DATA, VALIDATION = make_data(1), make_data(2, 11)


def train_alone(job):
    return train_network(
        job.module, job.train, job.validation, job.config,
        seed=job.seed, callbacks=job.callbacks, engine=job.engine, refresh=job.refresh,
        recorder=job.recorder,
    )  # fmt: skip


def assert_same(job, result, other, wanted):
    np.testing.assert_equal(without_time(result.history), without_time(wanted.history))
    assert (result.best_epoch, result.ended_by) == (wanted.best_epoch, wanted.ended_by)
    np.testing.assert_equal(result.best_score, wanted.best_score)
    assert result.engine == wanted.engine
    expected = other.module.state_dict()
    for name, values in job.module.state_dict().items():
        np.testing.assert_array_equal(values.numpy(), expected[name].numpy(), err_msg=name)
    assert not job.module.training
    if job.recorder is None:
        assert result.record is None
    else:
        assert result.record.n_epochs == len(result.history)
        assert_same_record(result.record, wanted.record)


def assert_same_as_alone(jobs):
    """Train jobs together and alone; the second job is not recorded, but the others are."""
    jobs = [replace(job, recorder=None if i == 1 else Recorder()) for i, job in enumerate(jobs)]
    copies = [copy_of(job) for job in jobs]
    results = train_side_by_side(jobs)
    for job, result, other in zip(jobs, results, copies, strict=True):
        assert_same(job, result, other, train_alone(other))
    return results


FIELDS = {
    "schedules": [
        {"lr_schedule": "constant", "warmup_epochs": 2},
        {"warmup_epochs": 0.2, "max_steps": 7},
        {"max_epochs": "auto", "max_steps": 9},
        {"lr_schedule": "cosine"},
        {"lr_schedule": "plateau", "patience": 1, "tol": 0.5},
    ],
    "batches": [
        {"batch_size": 1, "max_epochs": 2},
        {"batch_size": 4},
        {"batch_size": None},
        {"batch_size": 5},
        {"sampler": "balanced"},
        {"sampler": "sqrt"},
    ],
    "crops": [
        {"max_timesteps": 6, "crop": "random"},
        {"max_timesteps": 6, "crop": "random", "batch_size": 5},
        {"max_timesteps": 5, "crop": "random"},
    ],
    "averages": [{"ema_decay": 0.9}, {"ema_decay": 0.5}, {}],
    "losses": [{"loss": "focal"}, {}, {"label_smoothing": 0.1}],
    "optimizers": [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "optimizer_params": {"momentum": 0.0}},
        {"optimizer": "rmsprop", "optimizer_params": {"alpha": 0.9, "eps": 1e-7}},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"max_grad_norm": None},
        {"max_grad_norm": 0.01},
    ],
    "lengths of runs": [{"max_epochs": 1}, {"max_epochs": 7}, {"max_epochs": 3}],
    "latest weights": [{"restore_best": False}, {}],
}
NETWORKS = {
    "pooling": [{"pooling": "last"}, {"pooling": "mean"}, {"pooling": "last", "hidden_size": 17}],
    "layers": [{"num_layers": 2, "bidirectional": True}] * 2 + [{"num_layers": 3}] * 2,
    "batch norm": [{"head_norm": "batch"}] * 2,
    "layer norm": [{"head_norm": "layer", "dropout": 0.3}, {"head_norm": "layer"}],
    "dropout": [{"dropout": 0.2}, {"recurrent_dropout": 0.4}, {}],
}


@pytest.mark.parametrize("options", FIELDS.values(), ids=FIELDS)
def test_runs_with_different_arguments_get_the_bits_they_get_alone(options):
    assert_same_as_alone(
        [make_job(i, DATA, VALIDATION, **of_job) for i, of_job in enumerate(options)]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_runs_with_different_networks_get_the_bits_they_get_alone(name):
    networks, lengths = NETWORKS[name], name not in ("batch norm", "dropout")
    data, validation = make_data(1, lengths=lengths), make_data(2, 11, lengths=lengths)
    assert_same_as_alone(
        [make_job(i, data, validation, network=network) for i, network in enumerate(networks)]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_runs_on_different_windows_get_the_bits_they_get_alone(dtype):
    sets = [make_data(i, 20 + i, weight=i == 1, dtype=dtype) for i in range(3)]
    held_out = [make_data(i + 7, 300 if i == 0 else 5 + i, dtype=dtype) for i in range(3)]
    jobs = [
        make_job(10 * i + j, sets[i], held_out[i], dtype=dtype, learning_rate=0.01 * (1 + j))
        for j in range(2)
        for i in range(3)
    ]
    assert_same_as_alone([*jobs, make_job(99, sets[0], None, dtype=dtype)])


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    results = []
    for n_threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            jobs = [make_job(i, DATA, VALIDATION, batch_size=2 + 9 * i) for i in range(3)]
            trained = train_side_by_side(jobs)
        finally:
            torch.set_num_threads(before)
        results.append(([without_time(r.history) for r in trained], weights_of(jobs)))
    assert results[0] == results[1]


def weights_of(jobs):
    return [torch.nn.utils.parameters_to_vector(job.module.parameters()).tolist() for job in jobs]


def test_the_order_of_the_runs_changes_no_bit():

    def make_jobs():
        return [make_job(i, DATA, VALIDATION, batch_size=3 + i) for i in range(4)]

    forwards, backwards = make_jobs(), make_jobs()[::-1]
    first = train_side_by_side(forwards)
    second = train_side_by_side(backwards)[::-1]
    assert weights_of(forwards) == weights_of(backwards[::-1])
    for one, other in zip(first, second, strict=True):
        assert without_time(one.history) == without_time(other.history)


def test_a_run_that_diverges_leaves_the_others_as_they_are():
    wild = {"optimizer": "sgd", "max_grad_norm": None, "weight_decay": 30.0, "batch_size": 2}
    jobs = [
        make_job(0, DATA, VALIDATION, optimizer="sgd"),
        make_job(1, DATA, VALIDATION, **wild, learning_rate=1e38),
        make_job(2, DATA, VALIDATION, optimizer="sgd", callbacks=(Watcher(factor=1e30),)),
        make_job(3, DATA, VALIDATION, optimizer="sgd", max_epochs=8),
    ]
    results = assert_same_as_alone(jobs)
    assert [r.ended_by == "diverged" for r in results] == [False, True, True, False]
    assert results[1].best_epoch == 0
    assert results[2].best_epoch == 1


def test_every_run_stops_early_independently():
    jobs = [
        make_job(i, DATA, VALIDATION, learning_rate=rate, max_epochs=40)
        for i, rate in enumerate([0.3, 0.05, 0.1, 0.02, 0.2])
    ]
    results = assert_same_as_alone(jobs)
    assert len({len(r.history) for r in results if r.ended_by == "early_stopping"}) > 2


def test_runs_that_the_native_engine_does_not_support_are_also_trained():
    def loss(logits, target):
        return torch.nn.functional.cross_entropy(logits, target, reduction="none")

    jobs = [make_job(0, DATA, VALIDATION, loss=loss), make_job(1, DATA, VALIDATION)]
    results = assert_same_as_alone(jobs)
    assert [r.engine.name for r in results] == ["autograd", "native"]


class Watcher:
    def __init__(self, end_at=None, factor=None):
        self.seen, self.end_at, self.factor = [], end_at, factor

    def on_fit_begin(self, module, config):
        self.seen.append(("begin", config.batch_size, module.training))

    def on_epoch_end(self, module, history):
        self.seen.append((history[-1]["epoch"], module.linear.weight.tolist(), module.training))
        if self.factor is not None:
            with torch.no_grad():
                module.linear.weight *= self.factor
        return len(history) == self.end_at

    def on_fit_end(self, module, history):
        self.seen.append(("end", module.linear.weight.tolist(), module.training))


def test_callbacks_see_and_change_their_own_run():
    jobs = [
        make_job(0, DATA, VALIDATION, callbacks=(Watcher(),)),
        make_job(1, DATA, VALIDATION, callbacks=(Watcher(end_at=2),)),
        make_job(2, DATA, VALIDATION),
        make_job(3, DATA, VALIDATION, callbacks=(Watcher(factor=0.5),), batch_size=5),
    ]
    copies = [copy_of(job) for job in jobs]
    results = train_side_by_side(jobs)
    for job, result, other in zip(jobs, results, copies, strict=True):
        assert_same(job, result, other, train_alone(other))
        for ours, theirs in zip(job.callbacks, other.callbacks, strict=True):
            assert ours.seen == theirs.seen
    assert results[1].ended_by == "callback"


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_every_run_has_its_own_windows_that_change_in_each_epoch(n_jobs):
    before = DATA.X.clone()

    def refresh_by(factor):
        return lambda epoch: (DATA.X * (1 + factor * epoch)).numpy()

    jobs = [
        replace(make_job(i, DATA, VALIDATION), refresh=refresh_by(0.1 * i) if i != 1 else None)
        for i in range(n_jobs)
    ]
    assert_same_as_alone(jobs)
    assert torch.equal(DATA.X, before)


def test_runs_in_portions_get_the_same_bits(monkeypatch):
    other_data = make_data(3)
    monkeypatch.setattr(side_by_side, "SHARED_BYTES", DATA.X.nbytes)
    monkeypatch.setattr(side_by_side, "STEP_PRODUCTS", 1.0)
    groups = []
    original = side_by_side.SideBySide.__init__

    def note(self, runs, **options):
        groups.append([run.module for run in runs])
        original(self, runs, **options)

    monkeypatch.setattr(side_by_side.SideBySide, "__init__", note)
    jobs = [make_job(i, [DATA, other_data][i % 2], VALIDATION) for i in range(4)]
    assert_same_as_alone(jobs)
    assert len(groups) >= 2
    together = [module for group in groups for module in group]
    assert {id(module) for module in together} == {id(job.module) for job in jobs}


def test_windows_that_runs_share_are_stored_once():
    stored = []
    original = native.EpochTrainer

    class Watched(original):
        def __init__(self, network, parameters, x, *rest, **options):
            stored.append((len(parameters), x))
            super().__init__(network, parameters, x, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "EpochTrainer", Watched)
        train_side_by_side([make_job(i, DATA, VALIDATION) for i in range(3)])
        train_side_by_side([make_job(i, [DATA, make_data(3)][i > 0], VALIDATION) for i in (0, 1)])
    (n_first, first), (n_second, second) = stored
    assert (n_first, first.data_ptr()) == (3, DATA.X.data_ptr())
    assert (n_second, len(second)) == (2, 2 * len(DATA))


class Interrupter:
    """Simulates Ctrl-C at the end of an epoch."""

    def __init__(self, at):
        self.at, self.ended = at, 0

    def on_epoch_end(self, module, history):
        if len(history) == self.at:
            raise KeyboardInterrupt

    def on_fit_end(self, module, history):
        self.ended += 1


def test_an_interrupt_ends_every_run_with_its_best_weights():
    watcher = Interrupter(at=3)
    jobs = [make_job(0, DATA, VALIDATION), make_job(1, DATA, VALIDATION, callbacks=(watcher,))]
    copies = [copy_of(job) for job in jobs]
    results = train_side_by_side(jobs)
    assert [r.ended_by for r in results] == ["interrupted", "interrupted"]
    assert [len(r.history) for r in results] == [3, 3]
    assert watcher.ended == 1
    for job, other, result in zip(jobs, copies, results, strict=True):
        shorter = make_job(job.seed.entropy - 100, DATA, VALIDATION, lr_schedule="cosine")
        assert result.best_epoch in (1, 2, 3)
        assert shorter.config == other.config
        stopped = replace(copy_of(other), callbacks=(Watcher(end_at=3),))
        wanted = train_alone(stopped)
        assert wanted.best_epoch == result.best_epoch
        assert weights_of([job]) == weights_of([stopped])


def test_a_second_interrupt_reaches_the_caller(two_interrupts):

    def make_jobs():
        watcher = Interrupter(at=2)
        return [make_job(0, DATA, VALIDATION, callbacks=(watcher,)), make_job(1, DATA, VALIDATION)]

    train_side_by_side(make_jobs())
    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(make_jobs())


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_raises_ends_training_as_it_would_alone(hook):
    class Failing:
        """Raises an error in one hook from the third call on; counts the calls of `on_fit_end`."""

        n_calls = n_ended = 0

        def call(self, name):
            self.n_ended += name == "on_fit_end"
            self.n_calls += name == hook
            if name == hook and (self.n_calls > 2 or "fit" in name):
                raise ValueError("of its own")

    for name in HOOKS:
        setattr(Failing, name, lambda self, module, argument, name=name: self.call(name))
    data = make_data(1)
    failing, alone = Failing(), Failing()
    jobs = [make_job(0, data, None, callbacks=(failing,)), make_job(1, data, None)]
    other = replace(copy_of(jobs[0]), callbacks=(alone,))
    raising = replace(copy_of(jobs[0]), callbacks=(Failing(),))
    with pytest.raises(ValueError, match="of its own"):
        train_side_by_side(jobs)
    with pytest.raises(ValueError, match="of its own"):
        train_alone(raising)
    assert str(other.run().error) == "of its own"
    assert failing.n_ended == alone.n_ended == 1
    assert weights_of(jobs[:1]) == weights_of([other])


def test_no_jobs_give_no_results():
    assert train_side_by_side([]) == []
