"""Ctrl-C at any moment: the training ends, and the program continues with the best weights."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from fits import PLAIN, AfterEpoch

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.io.prepared import read_windows, write_windows

ENDLESS = 1_000_000  # so many epochs that only the interrupt can end a fit


def interrupt_in_epoch(epoch, command):
    """Run a command, press Ctrl-C once when it reports `epoch`, and return its output."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a shell that runs tests in the background makes them and the child ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if f"epoch {epoch}/" in line:
                break
        else:
            pytest.fail(f"the command ended by itself: {''.join(lines)}")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output, err


@pytest.fixture
def python_takes_interrupts():
    """Receive Ctrl-C even if the tests run in the background, where Ctrl-C is usually ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({n: v for n, v in PLAIN.items() if n != "max_epochs"}, id="plain"),
        pytest.param({"early_stopping": True}, id="with features", marks=pytest.mark.trains),
    ],
)
def test_a_program_continues_with_the_best_weights(settings, capsys, python_takes_interrupts):
    y = np.arange(60) % 2
    X = np.random.default_rng(0).normal(size=(60, 20)) + y[:, None]
    begun = threading.Event()

    def press():
        if begun.wait(60):
            os.kill(os.getpid(), signal.SIGINT)

    def note(module, history):
        if len(history) == 3:
            begun.set()

    quick = {
        "hidden_size": 4,
        "max_epochs": ENDLESS,
        "patience": ENDLESS,
        "verbose": 2,
        "random_state": 0,
    }
    clf = SensorLSTMClassifier(**{**settings, **quick}, callbacks=[AfterEpoch(note)])
    thread = threading.Thread(target=press)
    thread.start()
    with pytest.warns(UserWarning, match="interrupted") as caught:
        clf.fit(X, y)
    thread.join()
    assert 3 <= clf.n_iter_ < ENDLESS
    assert 1 <= clf.best_epoch_ <= clf.n_iter_
    assert clf.best_score_ == np.min(clf.history_["val_loss"])
    assert clf.predict(X).shape == (60,)
    message = (
        f"training was interrupted after epoch {clf.n_iter_} of {ENDLESS}; the weights of epoch"
    )
    assert any(
        f"{message} {clf.best_epoch_} are kept" in str(warning.message) for warning in caught
    )
    output, messages = capsys.readouterr()
    assert output == ""
    shown = (clf.n_iter_, clf.n_iter_ - 1)  # the interrupt may come before the bar advances
    assert any(f"{n} epochs of 1 network" in messages for n in shown)


@pytest.fixture
def prepared(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    windows = WindowSet(
        X=(rng.normal(size=(60, 20, 1)) + y[:, None, None]).astype(np.float32),
        y=y,
        groups=np.arange(60) // 2,
        split=np.array(["train", "train", "validation"])[np.arange(60) // 2 % 3],
    )
    write_windows(tmp_path / "windows.h5", windows)
    return tmp_path / "windows.h5"


@pytest.mark.long
def test_the_command_writes_the_model_with_the_best_weights(prepared, tmp_path):
    model = tmp_path / "model.safetensors"
    endless = ("--max-epochs", str(ENDLESS), "--patience", str(ENDLESS))
    quick = {"hidden_size": 4, "verbose": 2, "early_stopping": "true", "features": "none"}
    settings = [part for name in quick for part in ("--set", f"{name}={quick[name]}")]
    command = [sys.executable, "-m", "sensorseq.cli", "train", prepared, "-o", model, *endless]
    code, output, messages = interrupt_in_epoch(3, [*map(str, command), *settings])
    assert code == 0, messages
    assert f"model written to {model}" in output
    clf = SensorLSTMClassifier.load(model)
    assert "training was interrupted after epoch" in messages
    assert f"the weights of epoch {clf.best_epoch_} are kept" in messages
    assert clf.history_["val_loss"][clf.best_epoch_ - 1] == clf.history_["val_loss"].min()
    windows = read_windows(prepared)
    validation = windows.take(np.flatnonzero(windows.split == "validation"))
    probabilities = clf.predict_proba(validation.X)[np.arange(len(validation.y)), validation.y]
    assert -np.log(probabilities).mean() == pytest.approx(clf.best_score_, rel=1e-5)
