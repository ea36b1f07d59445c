"""Scores of drives against the same definitions on a fine time grid."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.sequence.scores import DRIVE_SCORES, DriveCounts, count_drive, drive_scores

GRID_S = 0.5


class Piece(NamedTuple):
    start_s: float
    end_s: float
    label: str


def pieces(labels):
    """Make spans from labels that last GRID_S each; `.` is a gap."""
    edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    return [
        Piece(GRID_S * i, GRID_S * j, labels[i]) for i, j in pairwise(edges) if labels[i] != "."
    ]


def ticks(one, n):
    return {i for i in range(n) if one.start_s <= GRID_S * i < one.end_s}


@given(
    true=st.text("ab.", min_size=1, max_size=30),
    told=st.text("abc", min_size=30, max_size=30),
    tolerance=st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_a_grid(true, told, tolerance):
    n, found = 30, count_drive(pieces(told), pieces(true), GRID_S * tolerance)
    known = [i for i in range(len(true)) if true[i] != "."]
    assert found.scored_s == pytest.approx(GRID_S * len(known))
    assert found.right_s == pytest.approx(GRID_S * sum(true[i] == told[i] for i in known))
    hits = 0
    for one in pieces(true):
        own = ticks(one, n)
        hits += any(
            other.label == one.label
            and 2 * len(own & ticks(other, n)) >= len(own | ticks(other, n))
            for other in pieces(told)
        )
    assert found.n_found == hits or found.n_found == hits - 1  # one stretch finds one
    delay, n_switches = 0, 0
    for before, one in pairwise(pieces(true)):
        if before.label != one.label:
            first, last = round(one.start_s / GRID_S), round(one.end_s / GRID_S)
            delay += (told[first:last] + one.label).index(one.label)
            n_switches += 1
    assert (found.n_switches, found.delay_s) == (n_switches, pytest.approx(GRID_S * delay))
    n_false, entered = 0, set()
    for at in range(1, n):
        if told[at] == told[at - 1]:
            continue
        into = [
            place
            for place, one in enumerate(pieces(true))
            if one.label == told[at]
            and round(one.start_s / GRID_S) - tolerance <= at < round(one.end_s / GRID_S)
        ]
        n_false += not set(into) - entered
        entered |= set(into)
    first = [
        place
        for place, one in enumerate(pieces(true))
        if one.label == told[0] and round(one.start_s / GRID_S) <= tolerance
    ]
    if not first:  # a drive that begins in a class has entered it
        assert found.n_false == n_false


def test_scores_of_a_drive_by_hand():
    true = [Piece(0, 10, "ice"), Piece(10, 30, "sand"), Piece(30, 40, "ice")]
    told = [Piece(0, 13, "ice"), Piece(13, 15, "sand"), Piece(15, 16, "ice"), Piece(16, 40, "sand")]
    counts = count_drive(told, true, 1.0)
    assert counts == DriveCounts(40, 10 + 2 + 14, 4, 3, 1, 2, 3 + 10, 2)
    scores = drive_scores(np.array(counts))
    assert tuple(scores) == DRIVE_SCORES
    assert scores["accuracy"] == pytest.approx(26 / 40)
    assert scores["f1"] == pytest.approx(2 / 7)
    assert scores["delay_s"] == pytest.approx(6.5)
    assert scores["false_switches_per_h"] == pytest.approx(180)


def test_a_right_answer_has_no_false_switch_and_no_delay():
    true = pieces("aabbbaacc")
    scores = drive_scores(np.array(count_drive(true, true, 0.0)))
    assert list(scores.values()) == [1, 1, 0, 0]


def test_nothing_to_score_is_nan():
    assert np.isnan(list(drive_scores(np.array(count_drive([], [], 1.0))).values())).all()
