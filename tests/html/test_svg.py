import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensorseq.html.svg import (
    MARGIN_BOTTOM,
    MARGIN_LEFT,
    MARGIN_TOP,
    Panel,
    extremes,
    log_ticks,
    sparkline,
    ticks,
)


def test_a_panel_draws_points_where_they_are():
    panel = Panel("p", (0.0, 10.0), (0.0, 1.0), width=400, height=200)
    panel.line(np.array([0.0, 10.0]), np.array([0.0, 1.0]), "train")
    (points,) = re.findall(r'points="([^"]+)"', panel.render())
    (x0, y0), (x1, y1) = [tuple(map(float, point.split(","))) for point in points.split()]
    assert (x0, y0) == (MARGIN_LEFT, 200 - MARGIN_BOTTOM)
    assert (x1, y1) == (386, MARGIN_TOP)


def test_a_curve_breaks_where_there_is_no_number():
    panel = Panel("p", (0.0, 5.0), (0.0, 1.0))
    panel.line(np.arange(6.0), np.array([0, 0.5, np.nan, 1, np.inf, 0.2]), "train")
    picture = panel.render()
    assert picture.count("<polyline") == 1
    assert picture.count("<circle") == 2
    drawn = re.findall(r'(?:points|cx|cy)="([^"]+)"', picture)
    assert np.isfinite([float(number) for text in drawn for number in re.split("[ ,]", text)]).all()


@example(0.0, 1e-11)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_few_even_and_inside(low, span):
    marks = ticks(low, low + span)
    assert len(marks) <= 8
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in marks)
    if len(marks) > 2:
        steps = np.diff(marks)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


@example(1.3e-11, 1.125)
@given(st.floats(1e-12, 1e9), st.floats(1.01, 1e12))
def test_logarithmic_ticks_are_few_and_inside(low, factor):
    marks = log_ticks(low, low * factor)
    assert len(marks) <= 8
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in marks)


def test_a_logarithmic_axis_puts_equal_factors_at_equal_distances():
    panel = Panel("p", (0.0, 4.0), (0.01, 100.0), y_log=True)
    panel.line(np.arange(5.0), np.array([0.01, 1.0, 100.0, 0.0, 1.0]), "train")
    picture = panel.render()
    (points,) = re.findall(r'points="([^"]+)"', picture)
    heights = [float(pair.split(",")[1]) for pair in points.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert picture.count("<circle") == 1  # no earlier value is above zero


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=400), st.integers(1, 40)
)
def test_thinning_keeps_the_extremes_of_each_interval_and_every_gap(values, most):
    y = np.array(values)
    kept = extremes(y, most)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= max(2 * most, 3 * most + 2)
    assert {0, len(y) - 1} <= set(kept.tolist())
    for part in np.array_split(np.arange(len(y)), most):
        drawn = y[kept[np.isin(kept, part)]]
        if np.isfinite(y[part]).any():
            assert np.nanmax(drawn) == np.nanmax(y[part])
            assert np.nanmin(drawn) == np.nanmin(y[part])
        assert np.isnan(drawn).any() == np.isnan(y[part]).any()


@pytest.mark.parametrize("n_epochs", [7, 58, 10_000, 123_456])
def test_no_label_is_cut_off_at_the_edge(n_epochs):
    picture = Panel("p", (0.5, n_epochs + 0.5), (0.0, 1.0), width=400).render()
    for anchor, x, text in re.findall(
        r'text-anchor="(middle|end)" x="([\d.]+)" y="[\d.]+">([^<]+)<', picture
    ):
        width = 7.0 * len(text)  # no digit is wider at 12 px
        assert float(x) + (width / 2 if anchor == "middle" else 0) <= 400


def test_a_sparkline_breaks_where_there_is_no_number():
    picture = sparkline([np.array([0, 1, np.nan, 1, 0, np.inf, 0.5])], (0.0, 1.0), "window")
    assert picture.count('<polyline class="c0"') == 3
    assert "nan" not in picture
