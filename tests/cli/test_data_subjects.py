"""Subjects in file names, and the commands that keep each subject in one part."""

import h5py
import numpy as np
import pandas as pd
import pytest
from commands import succeed

LABELS = ("walk", "run", "stairs")
RECORDINGS = [(s, at, k) for s in range(1, 6) for at in range(len(LABELS)) for k in range(2)]


def samples(subject, at, repeat, n=150):
    rng, time = np.random.default_rng(100 * subject + 10 * at + repeat), np.arange(n) / 50
    return pd.DataFrame({"time": time, "acc": np.sin(time * (6 + 4 * at)) + rng.normal(size=n)})


def folder_of(root, pattern):
    """Write the recordings; return the rows of a manifest for them."""
    rows = []
    for subject, at, repeat in RECORDINGS:
        name = pattern.format(l=LABELS[at], s=subject, k=repeat)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples(subject, at, repeat).to_csv(path, index=False)
        rows.append((name, LABELS[at], f"S{subject}"))
    return pd.DataFrame(rows, columns=["path", "label", "group"])


def prepare(tmp_path, *arguments):
    output = tmp_path / "w.h5"
    text = succeed("prepare", *arguments, "--window-s", "2", "-o", output, "-q")
    assert max(map(len, text.splitlines())) <= 80
    with h5py.File(output) as file:
        names, part = file["recording_id"][()].astype(str), file["split"][()]
    return " ".join(text.split()), names, part


@pytest.mark.parametrize("more", [(), ("--split-by", "recording")])
def test_subjects_in_several_parts_are_named_and_a_manifest_is_the_way_out(tmp_path, more):
    logs = tmp_path / "logs"
    manifest = folder_of(logs, "{l}/S{s:02d}_{l}_{k}.csv")
    text = succeed("prepare", logs, "--window-s", "2", "-o", tmp_path / "w.h5", "-q", *more)
    text = " ".join(text.split())
    assert "The names of the recordings contain S01, S02, S03 and 2 more" in text
    assert "a manifest with the columns path, label and group (for one table, use --group" in text
    if more:
        return
    manifest.to_csv(logs / "manifest.csv", index=False)
    text, names, part = prepare(tmp_path, logs)
    assert "The names of the recordings" not in text
    subject = np.array([name.split("/")[-1][:3] for name in names])
    assert all(len(set(part[subject == one])) == 1 for one in np.unique(subject))


def test_subjects_of_sensors_at_their_own_rates_are_named(tmp_path):
    for sensor in ("acc", "gyr"):
        folder_of(tmp_path / "logs", "{l}/" + sensor + "_S{s}_{k}.csv")
    pair = ("--native-rates", "--pair", "{sensor}_{recording}.*")
    text = succeed("prepare", tmp_path / "logs", *pair, "--window-s", "2", "-o", tmp_path / "w.h5")
    assert "contain S1, S2, S3 and 2 more" in " ".join(text.split())


def test_a_table_has_its_column_of_groups_as_the_way_out(tmp_path):
    table = pd.concat(
        samples(s, at, k).assign(rec=f"S{s}_{LABELS[at]}_{k}", who=f"S{s}", label=LABELS[at])
        for s, at, k in RECORDINGS
    )
    table.to_csv(tmp_path / "all.csv", index=False)
    how = ("--recording-column", "rec", "--label-column", "label", "--channels", "acc")
    text, _, _ = prepare(tmp_path, tmp_path / "all.csv", *how)
    assert "contain S1, S2, S3 and 2 more" in text
    text, names, part = prepare(tmp_path, tmp_path / "all.csv", *how, "--group-column", "who")
    assert "The names of the recordings" not in text
    subject = np.array([name[:2] for name in names])
    assert all(len(set(part[subject == one])) == 1 for one in np.unique(subject))
