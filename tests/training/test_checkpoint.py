"""A run that was interrupted and goes on is the run that never was, bit by bit."""

import contextlib
import copy
import json
import math
import warnings

import numpy as np
import pytest
import torch
from altered_json import altered
from fits import AfterEpoch, stop_after, weights, without_time
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sensorseq.errors import ArgumentError, CheckpointError
from sensorseq.io.model_file import CHECKPOINT, pack, unpack, write_model
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, checkpoint, train_network
from sensorseq.training.checkpoint import Checkpoint
from sensorseq.training.config import OPTIMIZERS

N_EPOCHS = 6
RNG = np.random.default_rng(0)
CLASS_INDEX = torch.arange(31) % 3
WINDOWS = torch.tensor(RNG.normal(size=(31, 7, 2))) + CLASS_INDEX[:, None, None]
LENGTHS = torch.tensor(RNG.integers(2, 8, 31))

OPTIONS = {
    "as it comes": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.2},
    "sgd with nesterov": {"optimizer": "sgd", "optimizer_params": {"nesterov": True}},
    "adam with amsgrad": {"optimizer": "adam", "optimizer_params": {"amsgrad": True}},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "rmsprop": {"optimizer": "rmsprop", "optimizer_params": {"momentum": 0.5, "centered": True}},
    "plateau": {"lr_schedule": "plateau", "patience": 4, "tol": 0.5, "early_stopping": False},
    "one cycle": {"lr_schedule": "one_cycle"},
    "warm-up": {"warmup_epochs": 4},
    "warm-up over a share": {"warmup_epochs": 0.3},
    "epochs found by steps": {"max_epochs": "auto", "max_steps": 14},
    "average of the weights": {"ema_decay": 0.9},
    "random crops": {"max_timesteps": 4, "crop": "random"},
    "balanced batches": {"sampler": "balanced", "last_batch": "drop"},
    "root of the counts": {"sampler": "sqrt", "windows_per_epoch": 30},
    "some windows an epoch": {"windows_per_epoch": 10, "batch_size": 4, "last_batch": "drop"},
    "full batch": {"batch_size": None},
    "label smoothing": {"label_smoothing": 0.1},
    "the last weights kept": {"restore_best": False},
    "early stopping soon after": {"patience": 1, "tol": 0.03, "learning_rate": 0.002},
    "no validation": {"monitor": "loss"},
}
NETWORKS = {
    "dropout": {"dropout": 0.4},
    "recurrent dropout": {"recurrent_dropout": 0.4, "num_layers": 2},
    "batch norm": {"head_norm": "batch"},
    "layer norm": {"head_norm": "layer", "bidirectional": True},
    "batch norm and dropout": {"head_norm": "batch", "dropout": 0.3},
}


pytestmark = pytest.mark.usefixtures("no_disk_is_waited_for")


class CrashError(Exception):
    """What ends a run in the middle of an epoch."""


class CrashIn:
    """Raise in the callback of an epoch, before its checkpoint is written."""

    def __init__(self, epoch, error=CrashError):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, module, history):
        if len(history) == self.epoch:
            raise self.error


def make_data(dtype=torch.float32, *, shift=0.0):
    X = WINDOWS.to(dtype) + shift
    return (
        TrainingData(X[:23], LENGTHS[:23], CLASS_INDEX[:23], torch.linspace(0.5, 1.5, 23).to(X)),
        TrainingData(X[23:], LENGTHS[23:], CLASS_INDEX[23:]),
    )


def make_module(dtype=torch.float32, seed=0, **network):
    torch.manual_seed(seed)
    return LSTMLinear(2, 5, 3, **{"pooling": "meanmax", **network}).to(dtype)


def train(
    checkpoint=None, *, module=None, data=None, network=None, dtype=torch.float32,
    engine="native", callbacks=(), seed=3, **options,
):  # fmt: skip
    """Return the module and the result of one run."""
    module = make_module(dtype, **(network or {})) if module is None else module
    given, validation = make_data(dtype) if data is None else data
    chosen = {"batch_size": 8, "max_epochs": N_EPOCHS, "learning_rate": 0.02, **options}
    if chosen.get("monitor") == "loss":
        validation = None
    config, seed = TrainingConfig(3, **chosen), np.random.SeedSequence(seed)
    how = {"callbacks": callbacks, "engine": engine, "checkpoint": checkpoint}
    return module, train_network(module, given, validation, config, seed=seed, **how)


def state_in(path):
    """Return everything in a checkpoint but the durations, as text and bytes."""
    arrays, description = unpack(CHECKPOINT, path)
    rows = [json.loads(line) for line in arrays.pop("history").tobytes().splitlines()]
    contents = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return contents, json.dumps(description["state"], default=repr), repr(without_time(rows))


def assert_same_run(once, path_once, again, path_again):
    (module, result), (other_module, other) = once, again
    assert weights(module) == weights(other_module)
    assert repr(without_time(result.history)) == repr(without_time(other.history))
    assert result.ended_by == other.ended_by
    assert (result.best_epoch, result.engine) == (other.best_epoch, other.engine)
    np.testing.assert_equal(result.best_score, other.best_score)  # NaN equals NaN
    assert state_in(path_once) == state_in(path_again)


def assert_resumed_equals_uninterrupted(folder, at, **arguments):
    whole, cut = folder / "whole", folder / "cut"
    once = train(Checkpoint(whole), **arguments)
    n_epochs = len(once[1].history)
    assert n_epochs > 1
    with pytest.raises(CrashError):
        train(Checkpoint(cut), callbacks=[CrashIn(min(at, n_epochs))], **arguments)
    assert cut.exists() == (at > 1)
    again = train(Checkpoint(cut, resume=True), **arguments)
    assert_same_run(once, whole, again, cut)
    plain = train(**arguments)
    assert weights(plain[0]) == weights(once[0])


@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_with_every_option_a_resumed_run_is_the_uninterrupted_one(tmp_path, engine, options):
    assert_resumed_equals_uninterrupted(tmp_path, 3, engine=engine, **options)


@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_with_every_network_a_resumed_run_is_the_uninterrupted_one(
    tmp_path, engine, network, ema_decay
):
    arguments = {"engine": engine, "network": network, "ema_decay": ema_decay}
    assert_resumed_equals_uninterrupted(tmp_path, 4, **arguments)


@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("at", range(1, N_EPOCHS + 1))
def test_it_does_not_matter_in_which_epoch_a_run_was_interrupted(tmp_path, engine, at):
    options = {"ema_decay": 0.7, "patience": 2, "lr_schedule": "plateau"}
    network = {"network": {"dropout": 0.2}, "dtype": torch.float64}
    assert_resumed_equals_uninterrupted(tmp_path, at, engine=engine, **network, **options)


@pytest.mark.trains
@given(
    engine=st.sampled_from(["native", "autograd"]),
    options=st.lists(st.sampled_from(list(OPTIONS)), max_size=3),
    network=st.sampled_from(list(NETWORKS)),
    every=st.integers(1, 4),
    crashes=st.lists(st.integers(1, N_EPOCHS), max_size=4),
)
def test_any_number_of_interruptions_changes_nothing(
    tmp_path_factory, engine, options, network, every, crashes
):
    folder = tmp_path_factory.mktemp("runs")
    arguments = {"engine": engine, "network": NETWORKS[network]}
    for name in options:
        arguments |= OPTIONS[name]
    known = OPTIMIZERS[arguments.get("optimizer", "adam")]
    if not set(arguments.get("optimizer_params", ())) <= set(known):  # drawn for another
        arguments.pop("optimizer_params")
    if arguments.get("lr_schedule") == "one_cycle":  # which rises by itself
        arguments.pop("warmup_epochs", None)
    whole = folder / "whole"
    once = train(Checkpoint(whole, every=every), **arguments)
    cut = folder / "cut"
    for epoch in crashes:
        checkpoint = Checkpoint(cut, every=every, resume=True)
        with contextlib.suppress(CrashError):
            train(checkpoint, callbacks=[CrashIn(epoch)], **arguments)
    again = train(Checkpoint(cut, every=every, resume=True), **arguments)
    assert_same_run(once, whole, again, cut)


class Foreign(nn.Module):
    """A network that is not ours: its dropout draws from torch's own generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 3), nn.BatchNorm1d(3))

    def forward(self, X, lengths):
        return self.layers(X.mean(dim=1))


def test_a_network_that_draws_from_torchs_generator_resumes_too(tmp_path):
    torch.manual_seed(0)
    first = Foreign()
    arguments = {"engine": "autograd", "optimizer": "rmsprop"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    once = train(Checkpoint(whole), module=copy.deepcopy(first), **arguments)
    with pytest.raises(CrashError):
        train(Checkpoint(cut), module=copy.deepcopy(first), callbacks=[CrashIn(4)], **arguments)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = train(Checkpoint(cut, resume=True), module=copy.deepcopy(first), **arguments)
    assert torch.equal(before, torch.get_rng_state())
    assert_same_run(once, whole, again, cut)


def test_a_change_a_callback_makes_to_the_weights_is_kept(tmp_path):
    def shrink(module, history):
        with torch.no_grad():
            module.linear.weight.mul_(0.5)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    once = train(Checkpoint(whole), callbacks=[AfterEpoch(shrink)])
    with pytest.raises(CrashError):
        train(Checkpoint(cut), callbacks=[AfterEpoch(shrink), CrashIn(4)])
    again = train(Checkpoint(cut, resume=True), callbacks=[AfterEpoch(shrink)])
    assert_same_run(once, whole, again, cut)


@pytest.mark.parametrize("options", [{}, {"patience": 1, "tol": 10.0}])
def test_a_finished_run_is_returned_without_training(tmp_path, options):
    path, epochs = tmp_path / "run", []
    counter = AfterEpoch(lambda module, history: epochs.append(len(history)))
    once = train(Checkpoint(path), **options)
    before = path.read_bytes()
    again = train(Checkpoint(path, resume=True), callbacks=[counter], **options)
    assert epochs == []
    assert path.read_bytes() == before
    assert_same_run(once, path, again, path)
    assert repr(once[1].history.to_rows()) == repr(again[1].history.to_rows())  # durations too


@pytest.mark.parametrize("good_epochs", [0, 2])
def test_a_diverged_run_is_a_finished_one(tmp_path, good_epochs):
    calls = []

    def sick(logits, target):
        calls.append(0)
        factor = math.nan if len(calls) > good_epochs else 1.0
        return nn.functional.cross_entropy(logits, target, reduction="none") * factor

    path = tmp_path / "run"
    arguments = {"loss": sick, "engine": "autograd", "batch_size": None, "monitor": "loss"}
    module, result = train(Checkpoint(path), **arguments)
    assert (result.ended_by, result.best_epoch) == ("diverged", good_epochs)
    n_calls = len(calls)
    again = train(Checkpoint(path, resume=True), **arguments)
    assert len(calls) == n_calls
    assert_same_run((module, result), path, again, path)


def test_without_a_checkpoint_yet_resume_starts_anew(tmp_path):
    once = train(Checkpoint(tmp_path / "a"))
    again = train(Checkpoint(tmp_path / "b", resume=True))
    assert_same_run(once, tmp_path / "a", again, tmp_path / "b")


def test_without_resume_a_checkpoint_is_replaced(tmp_path):
    path = tmp_path / "run"
    train(Checkpoint(path), seed=1)
    once = train(Checkpoint(tmp_path / "other"))
    again = train(Checkpoint(path))
    assert_same_run(once, tmp_path / "other", again, path)


def epochs_in(path):
    return len(unpack(CHECKPOINT, path)[0]["history"].tobytes().splitlines())


@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_a_checkpoint_is_written_after_each_kth_epoch_and_the_last(tmp_path, every):
    checkpoint = Checkpoint(tmp_path / "run", every=every)

    def look(module, history):
        found = epochs_in(tmp_path / "run") if (tmp_path / "run").exists() else 0
        assert found == (len(history) - 1) // every * every

    train(checkpoint, callbacks=[AfterEpoch(look)])
    assert epochs_in(tmp_path / "run") == N_EPOCHS
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("error", [CrashError, KeyboardInterrupt])
def test_a_run_that_ends_before_its_time_leaves_its_last_finished_epoch(tmp_path, every, error):
    path = tmp_path / "run"
    try:
        _, result = train(Checkpoint(path, every=every), callbacks=[CrashIn(4, error)])
        assert result.ended_by == "interrupted"
    except CrashError:
        assert error is CrashError
    assert epochs_in(path) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    again = train(Checkpoint(path, every=every, resume=True))
    once = train(Checkpoint(tmp_path / "whole"))
    assert_same_run(once, tmp_path / "whole", again, path)


def test_a_run_that_a_callback_ended_goes_on(tmp_path):
    path = tmp_path / "run"
    _, result = train(Checkpoint(path, every=4), callbacks=[stop_after(2)])
    assert (result.ended_by, epochs_in(path)) == ("callback", 2)
    again = train(Checkpoint(path, resume=True))
    once = train(Checkpoint(tmp_path / "whole"))
    assert_same_run(once, tmp_path / "whole", again, path)


# What is refused.


def swap_targets(data):
    return TrainingData(data.X, data.lengths, data.target.flip(0), data.weight)


GIVEN, VALIDATION = make_data()
REFUSED = {
    "learning_rate": ({"learning_rate": 0.01}, r"learning_rate is 0.01, .* 0.02\. Use the same"),
    "max_epochs": ({"max_epochs": 9}, "max_epochs is 9, .* 6"),
    "loss": (
        {"loss": nn.functional.cross_entropy, "engine": "autograd"},
        "loss is 'torch.nn.functional.cross_entropy', .* 'cross_entropy'",
    ),
    "two": ({"l1": 0.1, "patience": 3}, "l1 is 0.1, .*; patience is 3, .* 20"),
    "engine": ({"engine": "autograd"}, "engine is 'autograd', .* 'native'"),
    "dropout": ({"network": {"dropout": 0.5}}, "dropout is 0.5, .* with 0.0"),
    "dtype": ({"dtype": torch.float64}, "the training windows .*; the first weights differ"),
    "layers": ({"network": {"num_layers": 2}}, r"num_layers is 2, .* 1\. Use the same"),
    "random_state": ({"seed": 4}, r"run: the random_state differs\. Use the same"),
    "first weights": ({"module": make_module(seed=1)}, "run: the first weights differ"),
    "windows": ({"data": make_data(shift=1e-6)}, "the training windows differ; the valid"),
    "targets": ({"data": (swap_targets(GIVEN), VALIDATION)}, "run: the training targets differ"),
    "weights": (
        {"data": (TrainingData(GIVEN.X, GIVEN.lengths, GIVEN.target), VALIDATION)},
        "run: the training weights differ",
    ),
    "lengths": (
        {"data": (GIVEN, TrainingData(VALIDATION.X, None, VALIDATION.target))},
        "run: the validation lengths differ",
    ),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    path = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(CrashError):
        train(Checkpoint(path), callbacks=[CrashIn(3)])
    return path


@pytest.mark.parametrize(("changed", "message"), REFUSED.values(), ids=REFUSED)
def test_a_checkpoint_of_another_run_is_refused_by_name_and_left_alone(begun, changed, message):
    before = begun.read_bytes()
    with pytest.raises(CheckpointError, match=message) as caught:
        train(Checkpoint(begun, resume=True), **changed)
    assert str(begun) in str(caught.value)
    assert begun.read_bytes() == before


def test_arguments_of_the_caller_count_as_well(tmp_path):
    path = tmp_path / "run"

    def begin(**arguments):
        return train(Checkpoint(path, resume=True, arguments=arguments))

    begin(scale="standard", verbose=0, random_state=np.random.RandomState(0))
    begin(scale="standard", verbose=1, random_state=np.random.RandomState(0))
    with pytest.raises(CheckpointError, match=r"scale is None, .* 'standard'"):
        begin(scale=None, verbose=1, random_state=np.random.RandomState(0))


def test_a_checkpoint_of_another_version_goes_on_with_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with pytest.raises(CrashError):
        train(Checkpoint(path), callbacks=[CrashIn(3)])
    monkeypatch.setattr("sensorseq.__version__", "99.0")
    with pytest.warns(UserWarning, match=r"sensorseq is 99.0, but was .* bit for bit"):
        train(Checkpoint(path, resume=True))


def test_the_entropy_of_a_run_can_be_read_before_it_goes_on(tmp_path):
    path = tmp_path / "run"
    assert Checkpoint(path, resume=True).entropy is None
    train(Checkpoint(path), seed=2**100 + 1)
    assert Checkpoint(path, resume=True).entropy == 2**100 + 1
    assert Checkpoint(path).entropy is None


def test_a_place_that_is_none_is_refused_with_the_way_out(tmp_path):
    for place, options, message in (
        (tmp_path, {}, "is a folder; give the name of a file"),
        (tmp_path / "none" / "run", {}, "the folder .*none does not exist; create it"),
        (3, {}, "checkpoint=3 must be the name of a file"),
        (None, {"resume": True}, "resume=True needs a checkpoint"),
        (tmp_path / "run", {"every": 0}, "checkpoint_every=0 must be"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Checkpoint(place, **options)


def test_nothing_but_a_checkpoint_is_replaced(tmp_path):
    path = tmp_path / "data.csv"
    for write in (
        lambda: path.write_text("a,b\n1,2\n"),
        lambda: write_model(path, {"w": np.zeros(3)}, {}),
    ):
        write()
        with pytest.raises(CheckpointError, match=r"data.csv exists and is not a checkpoint"):
            Checkpoint(path)
    with pytest.raises(CheckpointError, match=r"of another kind .*'sensorseq.model'"):
        Checkpoint(path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_killed_run_left_beside_its_checkpoint_goes_away(tmp_path, resume):
    path = tmp_path / "run"
    with pytest.raises(CrashError):
        train(Checkpoint(path), callbacks=[CrashIn(4)])
    (tmp_path / f".run.{'a' * 32}.tmp").write_bytes(b"half of one")
    once = train(Checkpoint(tmp_path / "whole"))
    again = train(Checkpoint(path, resume=resume))
    assert_same_run(once, tmp_path / "whole", again, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run", "whole"]


def test_at_most_one_checkpoint_a_second_and_the_last_are_flushed_to_disk(tmp_path, monkeypatch):
    now_s, flushed = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr("os.fsync", lambda _: flushed.append(round(now_s[0], 1)))

    def tick(module, history):
        now_s[0] = 0.4 * len(history)

    train(Checkpoint(tmp_path / "run"), callbacks=[AfterEpoch(tick)])
    assert flushed == [0.4, 1.6, 2.4]


@pytest.mark.parametrize("step", ["pathlib.Path.replace", "os.fsync"])
def test_a_disk_that_fails_leaves_the_checkpoint_before(tmp_path, monkeypatch, step):
    path, states = tmp_path / "run", []
    monkeypatch.setattr(checkpoint, "_FLUSH_S", 0.0)  # so that every one is flushed

    def fail(*_):
        raise OSError("no space left")

    class FailNow:
        def on_epoch_end(self, module, history):
            if len(history) == 4:
                states.append(path.read_bytes())
                monkeypatch.setattr(step, fail)

    with pytest.warns(UserWarning, match="Training continues without") as caught:
        assert train(Checkpoint(path), callbacks=[FailNow()])[1].ended_by == "max_epochs"
    (warning,) = caught
    message = str(warning.message)
    assert f"the checkpoint {path} cannot be written (no space left)" in message
    assert "the file keeps an earlier epoch" in message
    assert [path.read_bytes()] == states
    assert epochs_in(path) == 3
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    again = train(Checkpoint(path, resume=True))
    once = train(Checkpoint(tmp_path / "whole"))
    assert_same_run(once, tmp_path / "whole", again, path)


def test_ctrl_c_while_a_checkpoint_is_written_loses_no_epoch(tmp_path, monkeypatch):
    path, write = tmp_path / "run", checkpoint.write_whole

    def interrupt(*_, **__):
        monkeypatch.setattr(checkpoint, "write_whole", write)
        raise KeyboardInterrupt

    class InterruptNow:
        def on_epoch_end(self, module, history):
            if len(history) == 4:
                monkeypatch.setattr(checkpoint, "write_whole", interrupt)

    assert train(Checkpoint(path), callbacks=[InterruptNow()])[1].ended_by == "interrupted"
    assert epochs_in(path) == 4
    again = train(Checkpoint(path, resume=True))
    once = train(Checkpoint(tmp_path / "whole"))
    assert_same_run(once, tmp_path / "whole", again, path)


def test_versions_are_no_reason_to_warn_here(begun):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Checkpoint(begun, resume=True)


def test_a_damaged_checkpoint_with_a_right_checksum_is_read_or_refused(begun, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "run"
    arrays, description = unpack(CHECKPOINT, begun)
    n_refused = 0
    for number in range(60):
        changed, given = description, dict(arrays)
        if number % 3:
            changed = altered(rng, description, removed=0.2)
        else:
            name = rng.choice(sorted(arrays))
            array = given.pop(name)
            given[rng.choice([name, f"{name}x"])] = array[:0] if array.ndim else array.reshape(1)
        path.write_bytes(pack(CHECKPOINT, given, json.dumps(changed)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                train(Checkpoint(path, resume=True))
        except CheckpointError:
            n_refused += 1
    assert 20 < n_refused <= 60
