import math
import subprocess
import sys

import numpy as np
import pytest

from sensorseq.diagnosis.page import draw_history
from sensorseq.errors import ArgumentError, EnvironmentProblemError

pytest.importorskip("matplotlib", reason="drawing needs the extra sensorseq[plot]")

CURVE = {
    "loss": [1.8, 1.2, 0.9, 0.8, 0.7, 0.7],
    "val_loss": [1.9, 1.3, 1.0, 1.0, 0.9, 1.0],
    "accuracy": [0.2, 0.5, 0.7, 0.75, 0.8, 0.8],
    "val_accuracy": [0.2, 0.4, 0.6, 0.8, 0.6, 0.7],
}


def line(axes, label):
    (found,) = [drawn for drawn in axes.get_lines() if drawn.get_label() == label]
    return found


def test_every_epoch_is_drawn_unsmoothed():
    loss, accuracy = draw_history(CURVE).axes
    for axes, names, factor in (
        (loss, ("loss", "val_loss"), 1),
        (accuracy, ("accuracy", "val_accuracy"), 100),
    ):
        for label, name in zip(("training", "validation"), names, strict=True):
            epochs, values = line(axes, label).get_data()
            np.testing.assert_array_equal(epochs, [1, 2, 3, 4, 5, 6])
            np.testing.assert_allclose(values, factor * np.array(CURVE[name]))
    assert "nats" in loss.get_ylabel()
    assert "%" in accuracy.get_ylabel()
    assert accuracy.get_xlabel() == "epoch"


def test_the_band_is_the_binomial_range_around_a_constant_accuracy():
    figure = draw_history({"val_accuracy": [0.8] * 20, "loss": [1.0] * 20}, n_val=25)
    (band,) = figure.axes[1].collections
    heights = band.get_paths()[0].vertices[:, 1]
    half = 100 * 1.96 * math.sqrt(0.8 * 0.2 / 25)
    assert heights.min() == pytest.approx(80 - half)
    assert heights.max() == pytest.approx(80 + half)


def test_the_band_covers_95_of_100_independent_accuracies():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(8):
        accuracy = rng.binomial(50, 0.7, 60) / 50
        figure = draw_history({"val_accuracy": accuracy, "loss": [1.0] * 60}, n_val=50)
        (band,) = figure.axes[1].collections
        path = band.get_paths()[0]
        inside += [path.contains_point((t + 1, 100 * a)) for t, a in enumerate(accuracy)]
    assert 0.93 < np.mean(inside) < 0.99


def test_there_is_no_band_without_a_validation_size():
    assert not draw_history(CURVE).axes[1].collections


def test_the_epoch_whose_weights_were_kept_is_marked_in_both_panels():
    figure = draw_history(CURVE, best_epoch=4)
    for axes in figure.axes:
        np.testing.assert_array_equal(line(axes, "weights kept: epoch 4").get_xdata(), [4, 4])


@pytest.mark.parametrize(
    "history",
    [
        {name: values[:1] for name, values in CURVE.items()},
        {"loss": [math.nan]},
        {"loss": [1.0, math.nan, math.inf, 60.0, 1.0]},
        {"val_accuracy": [None, 0.5, None, 1.0]},
    ],
    ids=["one epoch", "NaN", "explosion", "gaps"],
)
def test_any_history_can_be_drawn(history, tmp_path):
    path = tmp_path / "curve.png"
    figure = draw_history(history, n_val=20, best_epoch=1, path=path)
    assert path.read_bytes().startswith(b"\x89PNG")
    for axes in figure.axes:
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


def test_epochs_without_a_number_are_marked_not_dropped():
    (loss, _) = draw_history({"loss": [1.0, math.nan, 0.5, math.inf]}).axes
    np.testing.assert_array_equal(line(loss, "not a number").get_xdata(), [2, 4])


def test_one_explosion_does_not_flatten_the_rest_and_is_noted():
    (loss, _) = draw_history({"loss": [1.0] * 20 + [500.0] + [0.5] * 9}).axes
    assert loss.get_ylim()[1] < 10
    assert any("1 value above, up to 500" in text.get_text() for text in loss.texts)


def test_all_text_lies_inside_the_picture_and_no_labels_overlap():
    figure = draw_history(CURVE, n_val=20, best_epoch=3)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    legend = figure.legends[0].get_window_extent()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for box in (legend, *boxes):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    assert not any(legend.overlaps(box) for box in boxes)
    assert not boxes[0].overlaps(boxes[1])


def test_a_bad_history_is_named():
    with pytest.raises(ArgumentError, match="no epochs"):
        draw_history([])
    with pytest.raises(ArgumentError, match="best_epoch=9"):
        draw_history(CURVE, best_epoch=9)


def test_drawing_leaves_pyplot_alone_and_reporting_needs_neither_matplotlib_nor_torch():
    program = """
import sys
import sensorseq.diagnosis
sensorseq.diagnosis.TrainingMonitor
sensorseq.diagnosis.FluctuationReport.from_history({"loss": [1.0] * 20})
assert not {"torch", "matplotlib", "sklearn"} & set(sys.modules)
from sensorseq.diagnosis.page import draw_history
assert "matplotlib" not in sys.modules
draw_history({"loss": [1.0, 0.5]})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_matplotlib_the_error_says_what_to_install(without_module):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        without_module(name)
    with pytest.raises(EnvironmentProblemError, match=r'pip install "sensorseq\[plot\]"'):
        draw_history(CURVE)
