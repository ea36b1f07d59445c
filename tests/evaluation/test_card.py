import re
from dataclasses import replace

import numpy as np
import pytest
from commands import refused, succeed
from fits import plain_classifier

from sensorseq.evaluation.card import model_card
from sensorseq.evaluation.evaluate import evaluate_test
from sensorseq.io.prepared import WindowColumns, write_windows
from sensorseq.windows import WindowSet

HOSTILE = "a|<b>\x1b[31m"


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(18), 4)
    label = recording % 2
    X = np.sin(np.arange(20)[None, :, None] * (0.3 + 0.4 * label[:, None, None]))
    return WindowSet(
        X + 0.3 * rng.normal(size=X.shape),
        y=np.array(["ice", HOSTILE])[label],
        recording_id=np.array([f"rec {i}" for i in recording]),
        split=np.array(["train", "validation", "test"])[recording // 2 % 3],
        start_s=np.arange(len(X)) * 0.5,
        sample_rate_hz=20.0,
        channels=("curL",),
        provenance={"configuration": {"window": {"window_s": 1.0}}},
    )


@pytest.fixture(scope="module")
def files(windows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    model = plain_classifier(hidden_size=4, max_epochs=3, random_state=0).fit(windows)
    model.save(folder / "m.safetensors")
    write_windows(folder / "w.h5", windows)
    return model, folder / "m.safetensors", folder / "w.h5"


def rows_of(card, head):
    """Return the cells of the table whose header begins with these cells."""
    lines = card.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| " + " | ".join(head)))
    rows = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def test_figures_are_those_of_evaluate(windows, files):
    model, path, prepared = files
    card = succeed("info", path, "--markdown", "--windows", prepared)
    measured = evaluate_test(model, windows)
    scores = {row[0]: row[1:] for row in rows_of(card, ["", "score"])}
    low, high = (100 * value for value in measured.model.intervals["accuracy"])
    accuracy = f"{100 * measured.model.scores['accuracy']:.1f} %"
    assert scores["accuracy"] == [accuracy, f"{low:.1f} to {high:.1f}"]
    assert "calibration error" in scores
    confusion = np.array([row[1:-1] for row in rows_of(card, ["", "a\\|"])], int)
    np.testing.assert_array_equal(confusion, measured.model.confusion_matrix)
    assert {row[0] for row in rows_of(card, ["baseline"])} >= {"majority", "ridge"}
    counts = WindowColumns.of(windows).counts()
    assert rows_of(card, ["windows", "train", "validation", "test"])[1][1:] == [
        str(counts[part]["ice"]) for part in ("train", "validation", "test")
    ]
    # every recording it was trained on, and none of the test part
    used = set(windows.recording_id[windows.split != "test"].tolist())
    assert {row[0] for row in rows_of(card, ["recording", "SHA-256"])} == used


def test_a_card_without_windows_has_no_score(files):
    _, path, _ = files
    card = succeed("info", path, "--markdown")
    assert "Not measured on test recordings" in card
    assert "Its accuracy on new recordings is unknown." in card
    assert "| score |" not in card


def test_names_neither_end_a_cell_nor_become_html(files):
    model, path, _ = files
    card = model_card(model, path)
    assert "\x1b" not in card
    assert "<b>" not in card
    assert r"a\|&lt;b>\x1b" in card


def test_a_model_trained_on_arrays_has_a_card(windows, tmp_path):
    bare = replace(windows, recording_id=None, start_s=None, provenance={}, groups=None)
    model = plain_classifier(hidden_size=4, max_epochs=1, random_state=0).fit(bare.X, bare.y)
    model.save(tmp_path / "m.safetensors")
    card = model_card(model, tmp_path / "m.safetensors")
    assert "trained on arrays" in card
    assert "the recordings are not known" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--markdown"], "--markdown needs a model"),
        (["m.safetensors", "--markdown", "--json"], "excludes --json"),
        (["m.safetensors", "--windows", "w.h5"], "--windows is for --markdown"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message):
    assert message in refused(2, "info", *arguments)


def test_a_prepared_file_has_no_card(files):
    assert "give a model" in refused(3, "info", files[2], "--markdown")
