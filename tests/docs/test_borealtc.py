"""The commands of docs/borealtc.md run on real recordings.

BorealTC is a public data set (CC0) from a wheeled robot. Its folders ASPHALT, FLOORING, ICE,
SANDY_LOAM and SNOW contain recordings of one terrain each, ``pro_NN.csv`` (motor currents and wheel
speeds); there is also a folder MIXED. Set SENSORSEQ_BOREALTC to the data set's folder.
"""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc
from checkout import ROOT, run_process
from fits import plain_classifier

from sensorseq.evaluation.evaluate import evaluate_folds
from sensorseq.io.prepared import read_windows

WALK = (ROOT / "docs" / "borealtc.md").read_text("utf-8")
TERRAINS = ["ASPHALT", "FLOORING", "ICE", "SANDY_LOAM", "SNOW"]

pytestmark = [pytest.mark.slow, needs_borealtc]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("walk")


def sensorseq(folder, line, *more):
    """Run a command of the page in a separate process; return its stdout."""
    assert f"    sensorseq {line}\n" in WALK
    words = [word.replace("PATH/borealtc", str(BOREALTC)) for word in line.split()]
    words = [word.strip("'") for word in words]
    command = [sys.executable, "-m", "sensorseq.cli", *words, *more]
    done = run_process(*command, cwd=folder, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    return done.stdout


PREPARE = (
    "prepare PATH/borealtc --exclude MIXED --files 'pro_*.csv' --time-column time"
    " --window-s 5 --hop-s 2.5 -o terrain.h5"
)


@pytest.fixture(scope="module")
def trained(folder):
    output = sensorseq(folder, PREPARE)
    assert "".join(f"    {line}\n".replace("    \n", "\n") for line in output.splitlines()) in WALK
    sensorseq(folder, "train terrain.h5 -o terrain.safetensors --report page.html")
    assert (folder / "page.html").is_file()
    return folder


def test_recordings_stay_whole_and_every_class_is_in_every_part(trained):
    windows = read_windows(trained / "terrain.h5")
    assert windows.channels == ("curL", "curR", "velL", "velR")
    assert windows.sample_rate_hz == pytest.approx(6.5, rel=1e-3)
    assert windows.n_timesteps == 32
    assert len(np.unique(windows.recording_id)) == 71
    for name in np.unique(windows.recording_id):
        assert len(np.unique(windows.split[windows.recording_id == name])) == 1
    for part in ("train", "validation", "test"):
        assert np.unique(windows.part(part).y).tolist() == TERRAINS


def test_prepared_twice_has_the_same_bytes(trained, tmp_path):
    sensorseq(tmp_path, PREPARE, "--jobs", "2")
    assert (tmp_path / "terrain.h5").read_bytes() == (trained / "terrain.h5").read_bytes()


def test_evaluate_measures_recordings_never_trained_on(trained):
    evaluated = json.loads(sensorseq(trained, "evaluate terrain.safetensors terrain.h5", "--json"))
    windows = read_windows(trained / "terrain.h5")
    assert evaluated["classes"] == TERRAINS
    assert np.sum(evaluated["confusion_matrix"]) == (windows.split == "test").sum()
    tested = {row["recording_id"] for row in evaluated["recordings"]}
    assert tested == set(windows.part("test").recording_id.tolist())
    right = np.trace(evaluated["confusion_matrix"]) / np.sum(evaluated["confusion_matrix"])
    assert evaluated["accuracy"] == pytest.approx(right)
    majority = evaluated["baselines"]["majority"]
    assert evaluated["accuracy"] > majority["accuracy"] + 0.15
    # The accuracy of trees on new recordings of this set is known to be well above 0.75.
    assert evaluated["baselines"]["gradient_boosting"]["accuracy"] > 0.75
    text = sensorseq(trained, "evaluate terrain.safetensors terrain.h5")
    assert f"    {text.splitlines()[0]}\n" in WALK
    assert "recordings the model never saw" in text
    # The page shows the results of one processor; the network's results depend on rounding.
    _, low, high = map(float, re.search(r"    accuracy +(.*) % +(.*) to (.*)\n", WALK).groups())
    assert low <= 100 * evaluated["accuracy"] <= high
    for name in ("majority", "ridge", "gradient_boosting"):
        shown = re.search(rf"^    {name.replace('_', ' ')} +([\d.]+) %", WALK, re.MULTILINE)
        assert 100 * evaluated["baselines"][name]["accuracy"] == pytest.approx(
            float(shown[1]), abs=1
        )
    assert max(len(line) for line in text.splitlines()) <= 80


def test_predict_takes_a_raw_recording_through_the_same_steps(trained):
    line = "predict terrain.safetensors PATH/borealtc/ICE/pro_01.csv"
    predicted = json.loads(sensorseq(trained, line, "--json"))
    (recording,) = predicted["recordings"]
    windows = read_windows(trained / "terrain.h5")
    of_recording = windows.take(windows.recording_id == "ICE/pro_01")
    np.testing.assert_allclose([w["start_s"] for w in recording["windows"]], of_recording.start_s)
    assert recording["seen_in_training"] == (of_recording.split[0] != "test")
    assert recording["label"] in TERRAINS
    assert recording["label"] in sensorseq(trained, line)


def test_shuffled_terrains_fall_to_chance(trained):
    """Shuffle the terrains of recordings, so that a new recording's terrain cannot be predicted."""
    windows = read_windows(trained / "terrain.h5")
    names, index = np.unique(windows.recording_id, return_inverse=True)
    label = np.array([name.split("/")[0] for name in names])
    shuffled = replace(windows, y=np.random.default_rng(0).permutation(label)[index], split=None)
    classifier = plain_classifier(max_epochs=15, random_state=0)
    evaluated = evaluate_folds(classifier, shuffled, 4, baselines=("gradient_boosting",))
    for scored in (evaluated.model, evaluated.baselines["gradient_boosting"]):
        assert scored.scores["balanced_accuracy"] < 0.35  # guessing gives 0.2
