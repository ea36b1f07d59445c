"""The files of docs/many_machines.md can be joined, and a model learns from the result."""

import shutil

import numpy as np
from checkout import code_in, page_of
from fits import small_classifier
from small_recordings import write_recordings
from typer.testing import CliRunner

from sensorseq.cli import app
from sensorseq.io.prepared import read_windows


def test_files_of_two_machines_join_into_one_split_by_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    write_recordings(tmp_path / "logs")
    for number, machine in enumerate(("1", "2")):
        shutil.copytree("logs", machine)
        for file in (path for path in tmp_path.glob(f"{machine}/*/*") if path.is_file()):
            if int(file.stem[-1]) % 2 != number:
                file.unlink()
        options = ["--window-s", "2", "--sample-rate-hz", "20", "--split", "none"]
        done = run(app, ["prepare", machine, *options, "-o", f"{machine}.h5"])
        assert done.exit_code == 0, done.output
    exec(code_in(page_of("many_machines.md"))[0], {})
    joined = read_windows("windows.h5")
    parts = [read_windows(f"{machine}.h5") for machine in "12"]
    np.testing.assert_array_equal(joined.X, np.concatenate([part.X for part in parts]))
    groups = [set(joined.groups[joined.split == part]) for part in ("train", "validation", "test")]
    assert all(groups)
    assert sum(map(len, groups)) == len(set(joined.groups))
    clf = small_classifier(max_epochs=1).fit("windows.h5")
    assert clf.classes_.tolist() == sorted(set(joined.y))
    assert clf.model_.preparation["configuration"] is None  # so it cannot cut recordings, as stated
