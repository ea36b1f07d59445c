"""Persons and machines in the names of recordings are reported if they occur in several parts."""

import numpy as np
import pytest

from sensorseq import PreparePipeline, Recording
from sensorseq.preprocessing.subjects import note_subjects

LABELS = ("walk", "run", "stairs")


def noted(pattern, n=4, repeats=2, part_of=None, labels=LABELS, groups=None):
    """Return the note about recordings named by this pattern of subject, label and repetition."""
    rows = [
        (pattern.format(l=label, s=s + 1, k=k), label, part_of(s, k) if part_of else k % 2)
        for label in labels
        for s in range(n)
        for k in range(repeats)
    ]
    names, y, parts = map(np.array, zip(*rows, strict=True))
    split = np.array(["train", "test"])[parts.astype(int)]
    return note_subjects(y, names if groups is None else groups(names), names, split)


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("{l}/S{s:02d}_{l}_{k}", "S01, S02, S03 and 1 more"),
        ("{l}/s{s}-trial{k}", "s1, s2, s3 and 1 more"),
        ("{l}/{k}_subject_{s}", "subject_1"),
        ("{l}/sub-{s:02d}_ses-{k}_imu", "sub-01"),
        ("{l}/{l}_P{s}_{k}", "P1"),
        ("{l}/participant {s}/rec{k}", "participant 1"),
        ("{l}/acc_exp{k:02d}_user{s:02d}", "user01"),
        ("{l}/robot_{s:02d}/run_{k}", "robot_01"),
        ("Machine{s}/{l}{k}", "Machine1"),
        ("{l}/VEHICLE-{s}.{k}", "VEHICLE-1"),
    ],
)
def test_subjects_in_several_parts_are_noted_by_name(pattern, first):
    warning = noted(pattern)["subjects"]
    assert f"contain {first}" in warning
    assert "columns path, label and group" in warning


@pytest.mark.parametrize(
    "pattern",
    [
        "{l}/run{s}_{k}",
        "{l}/r{s:02d}_{k}",
        "{l}/trial_{s}_take_{k}",
        "{l}/rep{s}/t{k}",
        "{l}/pro_{s:02d}_{k}",
        "{l}/imu_{s:02d}_{k}",
        "{l}/session{s}_{k}",
        "{l}/steps{s}_{k}",
        "{l}/{s:02d}_{k}",
        "{l}/2024-05-{s:02d}_{k}s",
        "{l}/S1_{s}_{k}",
    ],
)
def test_other_numbers_are_not_subjects(pattern):
    assert noted(pattern) == {}


def test_nothing_is_noted_if_each_subject_is_in_one_part():
    assert noted("{l}/S{s}_{k}", part_of=lambda s, k: s % 2) == {}


def test_only_the_subjects_in_several_parts_are_named():
    part_of = lambda s, k: k % 2 if s == 2 else 0  # noqa: E731
    assert "contain S3, each" in noted("{l}/S{s}_{k}", part_of=part_of)["subjects"]


def test_two_numbers_or_one_class_are_not_enough():
    assert noted("{l}/S{s}_{k}", n=2) == {}
    assert noted("{l}/S{s}_{k}", labels=("walk",)) == {}
    # Each number occurs in one class only: S1 to S4 in walk, and S5 to S8 in run.
    rows = [
        (f"{label}/S{4 * at + s}_{k}", label)
        for at, label in enumerate(LABELS)
        for s in range(4)
        for k in range(2)
    ]
    names, y = map(np.array, zip(*rows, strict=True))
    split = np.resize(["train", "test"], len(names))
    assert note_subjects(y, names, names, split) == {}


def test_one_number_written_in_several_ways_is_one_subject():
    pairs = [("walk", "S{}"), ("run", "s_0{}")]
    rows = [(f"{y}/{form.format(s)}_a", y) for y, form in pairs for s in (1, 2, 3)]
    names, y = map(np.array, zip(*rows, strict=True))
    split = np.where(y == "walk", "train", "test")
    assert "contain s_01, s_02, s_03, each" in note_subjects(y, names, names, split)["subjects"]


def test_given_groups_are_respected():
    by_session = lambda names: np.array([name[-1] for name in names])  # noqa: E731
    assert noted("{l}/S{s}_{k}", groups=by_session) == {}


def test_without_labels_or_split_nothing_is_noted():
    names = np.array([f"S{s}_{k}" for s in range(4) for k in range(2)])
    assert note_subjects(None, names, names, np.resize(["train", "test"], 8)) == {}
    assert note_subjects(np.resize(["a", "b"], 8), names, names, None) == {}


def recordings(grouped):
    rng = np.random.default_rng(0)
    return [
        Recording.evenly_sampled(
            np.sin(np.arange(1200) * (1 + at) / 5)[:, None] + rng.normal(size=(1200, 1)),
            50.0,
            ["acc"],
            f"{label}/S{s}_{k}",
            label=label,
            group=f"S{s}" if grouped else "",
        )
        for at, label in enumerate(LABELS)
        for s in range(6)
        for k in range(2)
    ]


def test_the_pipeline_warns_of_subjects_and_groups_are_the_way_out():
    with pytest.warns(UserWarning, match="S0, S1, S2 and 3 more, each in more than one"):
        PreparePipeline(window_s=2).prepare(recordings(grouped=False))
    PreparePipeline(window_s=2).prepare(recordings(grouped=True))
    PreparePipeline(window_s=2, split_by="time").prepare(recordings(grouped=False))
    PreparePipeline(window_s=2, split=None, scale=None).prepare(recordings(grouped=False))
