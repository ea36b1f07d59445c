"""Scores of drives equal scores that are computed on a fine time grid by the same definitions."""

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


def ticks(piece, n):
    return {i for i in range(n) if piece.start_s <= GRID_S * i < piece.end_s}


@given(
    true=st.text("ab.", min_size=1, max_size=30),
    predicted=st.text("abc", min_size=30, max_size=30),
    tolerance=st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_counts_equal_those_on_a_grid(true, predicted, tolerance):
    n, counts = 30, count_drive(pieces(predicted), pieces(true), GRID_S * tolerance)
    labeled = [i for i in range(len(true)) if true[i] != "."]
    assert counts.scored_s == pytest.approx(GRID_S * len(labeled))
    assert counts.right_s == pytest.approx(GRID_S * sum(true[i] == predicted[i] for i in labeled))
    hits = 0
    for piece in pieces(true):
        covered = ticks(piece, n)
        hits += any(
            other.label == piece.label
            and 2 * len(covered & ticks(other, n)) >= len(covered | ticks(other, n))
            for other in pieces(predicted)
        )
    # each segment matches at most one other segment
    assert counts.n_found == hits or counts.n_found == hits - 1
    delay, n_switches = 0, 0
    for before, piece in pairwise(pieces(true)):
        if before.label != piece.label:
            first, last = round(piece.start_s / GRID_S), round(piece.end_s / GRID_S)
            delay += (predicted[first:last] + piece.label).index(piece.label)
            n_switches += 1
    assert (counts.n_switches, counts.delay_s) == (n_switches, pytest.approx(GRID_S * delay))
    n_false, entered = 0, set()
    for at in range(1, n):
        if predicted[at] == predicted[at - 1]:
            continue
        into = [
            place
            for place, piece in enumerate(pieces(true))
            if piece.label == predicted[at]
            and round(piece.start_s / GRID_S) - tolerance <= at < round(piece.end_s / GRID_S)
        ]
        n_false += not set(into) - entered
        entered |= set(into)
    first = [
        place
        for place, piece in enumerate(pieces(true))
        if piece.label == predicted[0] and round(piece.start_s / GRID_S) <= tolerance
    ]
    if not first:  # a drive enters its first class at the beginning
        assert counts.n_false == n_false


def test_scores_of_a_drive_by_hand():
    true = [Piece(0, 10, "ice"), Piece(10, 30, "sand"), Piece(30, 40, "ice")]
    predicted = [
        Piece(0, 13, "ice"),
        Piece(13, 15, "sand"),
        Piece(15, 16, "ice"),
        Piece(16, 40, "sand"),
    ]
    counts = count_drive(predicted, true, 1.0)
    assert counts == DriveCounts(40, 10 + 2 + 14, 4, 3, 1, 2, 3 + 10, 2)
    scores = drive_scores(np.array(counts))
    assert tuple(scores) == DRIVE_SCORES
    assert scores["accuracy"] == pytest.approx(26 / 40)
    assert scores["f1"] == pytest.approx(2 / 7)
    assert scores["delay_s"] == pytest.approx(6.5)
    assert scores["false_switches_per_h"] == pytest.approx(180)


def test_a_correct_answer_has_no_false_switch_and_no_delay():
    true = pieces("aabbbaacc")
    scores = drive_scores(np.array(count_drive(true, true, 0.0)))
    assert list(scores.values()) == [1, 1, 0, 0]


def test_scores_are_nan_if_there_is_nothing_to_score():
    assert np.isnan(list(drive_scores(np.array(count_drive([], [], 1.0))).values())).all()
