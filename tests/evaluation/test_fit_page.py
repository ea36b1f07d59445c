import copy
import re
from dataclasses import replace

import numpy as np
import pytest
from fits import small_classifier
from page_reader import Reader

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.report_text import list_steps, settings_as_options
from sensorseq.evaluation.baselines import predict_baseline
from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
from sensorseq.evaluation.fit_page import PagePart, compare_on_validation, make_page
from sensorseq.evaluation.metrics import compare, score_predictions
from sensorseq.html.svg import MARGIN_BOTTOM, MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP
from sensorseq.windows import WindowSet

HOSTILE = "<script>alert(1)</script>&\"'"


def make_windows(n_classes=3, n_channels=2, n_recordings=4, prefix=""):
    rng = np.random.default_rng(0)
    n = n_classes * n_recordings * 3 * 4
    label = np.arange(n) % n_classes
    recording = np.arange(n) // n_classes % (n_recordings * 3)
    t = np.arange(30)[None, :, None]
    X = np.sin(t * (0.2 + 0.3 * label[:, None, None] / n_classes * 3))
    X = X + 0.2 * rng.normal(size=(n, 30, n_channels))
    split = np.array(["train", "validation", "test"])[recording % 3]
    names = np.array([f"{prefix}class {i}" for i in range(n_classes)])
    ids = np.array([f"{prefix}rec {r} of {c}" for r, c in zip(recording, label, strict=True)])
    return WindowSet(
        X,
        y=names[label],
        recording_id=ids,
        split=split,
        start_s=np.arange(n) * 0.5,
        sample_rate_hz=20.0,
        channels=tuple(f"{prefix}channel {i}" for i in range(n_channels)),
    )


def fitted(windows, **arguments):
    return small_classifier(**arguments).fit(windows)


@pytest.fixture(scope="module")
def windows():
    return make_windows()


@pytest.fixture(scope="module")
def model(windows):
    return fitted(windows)


@pytest.fixture(scope="module")
def page(model, windows):
    return make_page(model, PagePart.of(model, windows, "validation"), title="a fit")


@pytest.mark.trains
def test_the_page_of_a_fit_shows_the_validation_part_by_networks_that_have_not_seen_it(windows):
    clf = SensorLSTMClassifier(hidden_size=2, max_epochs=2, features="rocket", random_state=0)
    clf.fit(windows)
    part = PagePart.of(clf, windows, "validation")
    rows, probability = clf.held_out_predictions(len(windows.part("validation")))
    np.testing.assert_array_equal(part.probability, probability)
    assert len(rows) == len(part.windows) == (windows.split == "validation").sum()
    assert not np.array_equal(probability, clf.predict_proba(windows.part("validation")))
    page = make_page(clf, part, title="fit")
    assert "The scored networks were not trained on these windows" in page
    assert "determine the weights of the features" in page


def test_the_page_needs_no_other_file(page):
    read = Reader(page)
    assert not {"link", "img", "iframe", "object"} & set(read.tags)
    assert read.tags.count("script") == 1
    assert not [name for name, _ in read.attributes if name in ("src", "href", "xlink:href")]
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import", page)
    assert len(page.encode()) < 2_000_000
    assert "light-dark(" in page


def test_the_page_states_the_measured_scores(page, model, windows):
    part = PagePart.of(model, windows, "validation")
    text = " ".join(Reader(page).texts)
    assert model.fluctuation_.explanation[0] in text
    assert f"{100 * part.evaluation.scores['accuracy']:.1f} %" in text
    assert f"weights kept: epoch {model.best_epoch_}" in text
    assert "slightly inflated" in text
    for row in part.evaluation.recordings:
        assert row.recording_id in text
    cells = re.findall(r'<td class="(?:right|wrong)"[^>]*>([^<]*)</td>', page)
    counts = [0 if cell == "·" else int(cell) for cell in cells]
    np.testing.assert_array_equal(np.reshape(counts, (3, 3)), part.evaluation.confusion_matrix)


def test_names_are_escaped_whatever_they_contain():
    windows = make_windows(prefix=HOSTILE)
    model = fitted(windows, max_epochs=2)
    comparison = evaluate_test(model, windows, baselines=("majority",))
    part = PagePart.of(model, windows, "test")
    read = Reader(make_page(model, part, title=HOSTILE, comparison=comparison))
    assert read.tags.count("script") == 1
    assert any(f"{HOSTILE}class 0" in text for text in read.texts)
    assert any(f"{HOSTILE}channel 1" in text for text in read.texts)


def test_an_evaluation_shows_the_baselines_alongside_the_model(model, windows):
    comparison = evaluate_test(model, windows)
    page = make_page(model, None, title="x", comparison=comparison)
    text = " ".join(Reader(page).texts)
    assert "ridge on summary features" in text
    assert "MiniRocket + ridge" in text
    assert "the model never saw" in text
    assert "slightly inflated" not in text
    assert "paired sign-flip test by group" in text
    (ridge,) = re.findall(r"<th[^>]*>ridge on summary features.*?<td>([^<]*)</td></tr>", page)
    expected = compare(comparison.model, comparison.baselines["ridge"])["accuracy"].p_value
    assert (ridge == "&lt;0.001") == (expected < 0.001)
    assert ridge == "&lt;0.001" or float(ridge) == pytest.approx(expected, rel=0.06)


# whether it warns depends on how this version of scikit-learn draws the folds
@pytest.mark.filterwarnings("ignore:class 'class 0' of y has only one window")
def test_an_evaluation_by_folds_shows_their_mean_and_what_dominates(model, windows):
    names, of_class = windows.recording_id, windows.y == "class 0"
    largest, *smaller = np.unique(names[of_class])[:3]
    first = [np.flatnonzero(names == name)[:1] for name in smaller]
    rows = np.concatenate([np.flatnonzero(~of_class | (names == largest)), *first])
    comparison = evaluate_folds(model, windows.take(rows), 2, baselines=())
    text = " ".join(Reader(make_page(model, None, title="x", comparison=comparison)).texts)
    assert f"{largest} has 67 % of the windows of class 0, so the fold" in text
    assert f"Mean of the fold accuracies: {100 * comparison.fold_mean:.1f} %" in text
    assert f"sd {100 * comparison.fold_sd:.1f} points" in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"validation_fraction": 0.0, "early_stopping": False},
        {"max_epochs": 1},
        {"scale": None},
        {"bidirectional": True, "num_layers": 2},
    ],
)
def test_every_fit_has_a_page(arguments, windows):
    unsplit = replace(windows, split=None) if "validation_fraction" in arguments else windows
    model = fitted(unsplit, **{"max_epochs": 2, **arguments})
    Reader(make_page(model, PagePart.of(model, unsplit, "validation"), title="x"))


def test_many_classes_channels_and_recordings_stay_readable():
    windows = make_windows(n_classes=30, n_channels=8, n_recordings=5)
    model = fitted(windows, max_epochs=1)
    page = make_page(model, PagePart.of(model, windows, "validation"), title="x")
    Reader(page)
    assert len(page.encode()) < 2_000_000
    assert "too many for a table" in page
    assert "first 6 of 8 channels" in page
    assert "30 more recordings, all at least as accurate" in page


def test_a_loss_that_explodes_does_not_flatten_the_rest_of_the_curve(model):
    report = model.fluctuation_
    history = {name: list(values) for name, values in report.history.items()}
    history["loss"][3], history["val_loss"][4] = 1e9, float("nan")
    broken = copy.copy(model)
    broken._judged = broken._judged._replace(report=replace(report, history=history))
    page = make_page(broken, None, title="x")
    Reader(page)
    assert "1 value above, up to 1e+09" in page


def test_the_page_of_a_fit_has_causes_what_to_do_and_baselines(windows):
    model = fitted(
        windows,
        learning_rate=0.1,
        optimizer="rmsprop",
        lr_schedule="constant",
        max_epochs=40,
        early_stopping=False,
        patch=None,
    )
    report = model.fluctuation_
    assert report.verdict == "fluctuating"
    part = PagePart.of(model, windows, "validation")
    comparison = compare_on_validation(model, part, windows)

    def command(changes):
        return f"sensorseq train{settings_as_options(changes or {})}"

    page = make_page(model, part, title="x", comparison=comparison, command=command)
    text = Reader(page).text
    first = next(cause for cause in report.causes if cause.name != "unknown")
    assert f"1. {first.title}" in text
    (step, *_) = list_steps(report, command)
    assert step.text in text
    assert "Fit the default settings, and compare held-out accuracy" in text
    assert "majority class" in text
    assert "ridge on summary features" in text
    ridge = comparison.baselines["ridge"].scores["accuracy"]
    assert f"ridge on summary features {100 * ridge:.1f} %" in text
    validation = windows.part("validation")
    predicted = predict_baseline("ridge", windows.part("train"), validation, model.classes_)
    right = model.classes_[predicted.argmax(axis=1)] == validation.y
    assert ridge == pytest.approx(right.mean())
    assert f"validation part: {len(validation)} windows" in text.lower()


def test_a_reliability_diagram_has_the_bins_counted_by_hand():
    sure = np.repeat([0.6, 0.9], 40)
    y = np.where(np.r_[np.arange(40) < 20, np.arange(40) < 38], "a", "b")
    bins = score_predictions(y, np.stack([sure, 1 - sure], axis=1), ["a", "b"]).reliability
    assert [point.n_windows for point in bins] == [40, 40]
    np.testing.assert_allclose([point[1:] for point in bins], [[0.6, 0.5], [0.9, 0.95]])


def test_the_page_draws_each_bin_where_it_is(page, model, windows):
    bins = PagePart.of(model, windows, "validation").evaluation.reliability
    dots = re.findall(r'<circle class="measured" cx="([\d.]+)" cy="([\d.]+)" r="4"', page)
    width, height = 380 - MARGIN_LEFT - MARGIN_RIGHT, 300 - MARGIN_TOP - MARGIN_BOTTOM
    expected = [(MARGIN_LEFT + p * width, 300 - MARGIN_BOTTOM - a * height) for _, p, a in bins]
    np.testing.assert_allclose(np.array(dots, float), expected, atol=0.06)
    assert sum(point.n_windows for point in bins) == (windows.split == "validation").sum()


def test_each_channel_of_an_example_window_has_a_row(page, model, windows):
    (picture, *_) = re.findall(r'<svg class="spark".*?</svg>', page)
    assert re.findall(r'<text class="lane"[^>]*>([^<]*)', picture) == list(windows.channels)
    lines = re.findall(r'points="([^"]*)"', picture)
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert max(heights[0]) < min(heights[1])
