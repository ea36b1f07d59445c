"""An existing prepared file is up to date, extended, replaced or refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import digest, interrupt_at, names_in
from tables import write_csv
from terrains import WAYS, make_terrains, signals, write_sensors

from sensorseq.errors import ArgumentError, PreparedFileError, RecordingError, SplitError
from sensorseq.evaluation.inspect import inspect_leakage
from sensorseq.io.prepared import PreparedFile, read_windows, write_windows
from sensorseq.prepare import prepare, recording_part

ROOT = Path(__file__).resolve().parents[2]
PER_WINDOW = ("X", "y", "lengths", "groups", "start_s", "split")
PLAIN = {"window_s": 2, "hop_s": 1}
EACH_WAY = [  # test_parts_that_an_earlier_step_decided_are_kept also covers ways 5 and 6
    pytest.param(way, marks=() if i == 3 else pytest.mark.slow) for i, way in enumerate(WAYS)
]
EACH_WAY += [{**PLAIN, "split": "none"}, {**WAYS[5], **WAYS[7]}]


@pytest.fixture
def terrains(tmp_path):
    return make_terrains(tmp_path / "logs")


@pytest.fixture
def parsed(monkeypatch):
    """A list of the recordings that are parsed."""
    names = []
    read = recording_part.read_source

    def noting(source, *given, **how):
        names.append(source.recording_id)
        return read(source, *given, **how)

    monkeypatch.setattr(recording_part, "read_source", noting)
    return names


def change(terrains):
    """Add two recordings to each class, and add a class; change one recording and remove one."""
    for number, label in enumerate(("Eis", "great snow", "sand", "tar")):
        for recording in range(4 if label == "tar" else 2):
            columns = signals(50 + 10 * number + recording, 320 + 30 * recording)
            write_csv(terrains / label / f"new_{recording}.csv", columns)
    write_csv(terrains / "Eis" / "pro_00.csv", signals(99, 500))
    (terrains / "sand" / "pro_02.csv").unlink()


def by_recording(path, names=PER_WINDOW):
    windows = read_windows(path)
    ids = windows.recording_id
    known = {key: getattr(windows, key) for key in names}
    known = {key: np.array(ids == "") if v is None else v for key, v in known.items()}
    return {name: {key: v[ids == name] for key, v in known.items()} for name in np.unique(ids)}


def assert_same(one, other, where=""):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=f"{where} {key}")


class TestUpToDate:
    @pytest.mark.parametrize(
        ("arguments", "resume"),
        [(WAYS[5], False), (WAYS[6], True)],
    )
    def test_repeating_a_preparation_reads_no_recording_and_keeps_the_file(
        self, terrains, tmp_path, arguments, resume, monkeypatch
    ):
        first = prepare(terrains, tmp_path / "w.h5", **arguments)
        before = (digest(tmp_path / "w.h5"), (tmp_path / "w.h5").stat().st_mtime_ns)
        monkeypatch.setattr("sensorseq.prepare.recording_part.read_source", None)
        monkeypatch.setattr("sensorseq.prepare.stages.read_source_rate", None)
        again = prepare(terrains, tmp_path / "w.h5", **arguments, resume=resume, jobs=2)
        assert (digest(tmp_path / "w.h5"), (tmp_path / "w.h5").stat().st_mtime_ns) == before
        assert (first.action, again.action) == ("written", "none")
        assert names_in(tmp_path) == ["logs", "w.h5"]
        assert again.n_reused == 12
        said = " ".join(str(again).split())
        assert "w.h5 is up to date: 12 recordings, same configuration" in said
        run = ("action", "n_reused", "headline")
        one, other = (
            {key: value for key, value in each.to_dict().items() if key not in run}
            for each in (first, again)
        )
        assert one == {**other, "own_rates_hz": tuple(other["own_rates_hz"])}

    def test_a_touched_or_copied_folder_is_the_same_and_a_changed_byte_is_not(
        self, terrains, tmp_path
    ):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        copy = Path(shutil.copytree(terrains, tmp_path / "copy", copy_function=shutil.copyfile))
        assert prepare(copy, tmp_path / "w.h5", **PLAIN).action == "none"
        path = copy / "sand" / "pro_00.csv"
        stat = path.stat()
        path.write_text(path.read_text().replace("0.05,", "0.051,", 1))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        summary = prepare(copy, tmp_path / "w.h5", **PLAIN)
        assert (summary.action, summary.changes) == (
            "replaced",
            ["1 changed recording: sand/pro_00"],
        )

    def test_the_file_may_be_in_the_folder_of_its_recordings(self, terrains, tmp_path):
        assert prepare(terrains, terrains / "w.h5", **PLAIN).action == "written"
        assert prepare(terrains, terrains / "sand" / ".." / "w.h5", **PLAIN).action == "none"
        write_csv(terrains / "sand" / "new.csv", signals(7))
        assert prepare(terrains, terrains / "w.h5", **PLAIN, resume=True).n_recordings == 13

    def test_a_leak_is_reported_again(self, terrains, tmp_path):
        for number in range(9):
            shutil.copy(terrains / "Eis/pro_00.csv", terrains / "Eis" / f"copy_{number}.csv")
        first = prepare(terrains, tmp_path / "w.h5", **PLAIN)
        again = prepare(terrains, tmp_path / "w.h5", **PLAIN)
        assert first.copies
        assert again.copies == first.copies
        assert str(again).count("LEAK") == len(first.copies)

    def test_recordings_left_out_are_remembered_until_errors_stop_the_run(self, terrains, tmp_path):
        (terrains / "sand" / "broken.csv").write_text("time,current\nnothing\n")
        first = prepare(terrains, tmp_path / "w.h5", **PLAIN, on_error="skip")
        again = prepare(terrains, tmp_path / "w.h5", **PLAIN, on_error="skip")
        assert again.action == "none"
        assert again.dropped == first.dropped
        for resume in (False, True):
            with pytest.raises(RecordingError, match=r"broken\.csv"):
                prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=resume)

    def test_damaged_samples_are_not_up_to_date(self, terrains, tmp_path):
        path = tmp_path / "w.h5"
        prepare(terrains, path, **PLAIN)
        whole = digest(path)
        with h5py.File(path) as file:
            at = file["X"].id.get_chunk_info(0).byte_offset
        content = bytearray(path.read_bytes())
        content[at + 10] ^= 1
        path.write_bytes(content)
        summary = prepare(terrains, path, **PLAIN)
        assert summary.action == "replaced"
        assert "damaged" in summary.headline
        assert digest(path) == whole


class TestExtended:
    @pytest.mark.parametrize("arguments", EACH_WAY, ids=str)
    def test_old_windows_and_parts_are_kept_and_new_ones_are_as_in_a_new_file(
        self, terrains, tmp_path, arguments
    ):
        prepare(terrains, tmp_path / "w.h5", **arguments)
        old = by_recording(tmp_path / "w.h5")
        change(terrains)
        prepare(terrains, tmp_path / "anew.h5", **arguments)
        summary = prepare(terrains, tmp_path / "w.h5", **arguments, resume=True)
        assert summary.action == "extended"
        assert (summary.n_reused, summary.n_recordings) == (10, 21)
        new, anew = by_recording(tmp_path / "w.h5"), by_recording(tmp_path / "anew.h5")
        with PreparedFile(tmp_path / "w.h5") as file, PreparedFile(tmp_path / "anew.h5") as other:
            facts, others = (each.stored.provenance for each in (file, other))
            assert (file.scaler is None) == (other.scaler is None)
        for name in ("configuration", "recordings", "dropped", "window", "input_channels"):
            assert facts[name] == others[name]
        for name in old.keys() - {"Eis/pro_00", "sand/pro_02"}:
            assert_same(new[name], old[name], name)
        assert new.keys() == anew.keys()
        is_group = arguments.get("split_by") != "time" and arguments.get("split") != "none"
        for name, one in new.items():
            if is_group and name in old:
                assert set(one["split"]) == set(old[name]["split"])
            if not is_group:
                assert_same(one, anew[name], name)
            elif set(one["split"]) == set(anew[name]["split"]) or "train_hop_s" not in arguments:
                assert_same({**one, "split": 0}, {**anew[name], "split": 0}, name)
        if arguments.get("split") != "none":
            assert not inspect_leakage(tmp_path / "w.h5")[0]
        if not is_group:  # a recording's part does not depend on other recordings
            assert digest(tmp_path / "w.h5") == digest(tmp_path / "anew.h5")
        before = digest(tmp_path / "w.h5")
        again = prepare(terrains, tmp_path / "w.h5", **arguments, resume=True)
        assert (again.action, digest(tmp_path / "w.h5")) == ("none", before)

    def test_only_what_is_new_or_changed_is_parsed(self, terrains, tmp_path, parsed):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        change(terrains)
        del parsed[:]
        stages = set()
        see = {"progress": lambda stage, *_: stages.add(stage)}
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True, **see)
        new = [f"{label}/new_{n}" for label in ("Eis", "great snow", "sand") for n in range(2)]
        new += [f"tar/new_{n}" for n in range(4)]
        assert sorted(parsed) == sorted([*new, "Eis/pro_00"])
        assert summary.headline == (
            f"extended {tmp_path / 'w.h5'}: 10 new recordings: Eis/new_0, Eis/new_1, great"
            " snow/new_0 and 7 more; 1 changed recording: Eis/pro_00; 1 removed recording:"
            " sand/pro_02."
        )
        assert stages == {"digests", "recordings", "merge"}

    def test_only_the_recordings_added_to_a_long_table_are_read(self, tmp_path, parsed):
        table = tmp_path / "table.csv"
        rows = ["run,time,current,surface"]
        for number in range(8):
            columns = signals(number, 200)
            label = ("ice", "mud")[number % 2]
            rows += [
                f"{number},{t},{x},{label}"
                for t, x in zip(columns["time"], columns["current"], strict=True)
            ]
        reading = {"recording_column": "run", "label_column": "surface", "window_s": 1}
        table.write_text("\n".join(rows[: 1 + 6 * 200]))
        prepare(table, tmp_path / "w.h5", **reading)
        assert prepare(table, tmp_path / "w.h5", **reading).action == "none"
        old = by_recording(tmp_path / "w.h5")
        table.write_text("\n".join(rows))
        del parsed[:]
        prepare(table, tmp_path / "w.h5", **reading, resume=True)
        assert parsed == ["6", "7"]
        new = by_recording(tmp_path / "w.h5")
        assert len(new) == 8
        for name, one in old.items():
            assert_same(new[name], one, name)

    def test_new_groups_bring_the_parts_to_their_shares(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN, split=(0.4, 0.3, 0.3))
        for number in range(24):
            write_csv(terrains / "sand" / f"new_{number:02d}.csv", signals(100 + number, 200))
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, split=(0.4, 0.3, 0.3), resume=True)
        sand = np.array([summary.counts[part]["sand"] for part in ("train", "validation", "test")])
        np.testing.assert_allclose(sand / sand.sum(), (0.4, 0.3, 0.3), atol=0.03)

    @pytest.mark.parametrize("arguments", [WAYS[5], WAYS[6]], ids=str)
    def test_parts_that_an_earlier_step_decided_are_kept(self, terrains, tmp_path, arguments):
        """A run assigns its new groups together, so one run and two runs may choose differently."""
        prepare(terrains, tmp_path / "w.h5", **arguments)
        for number in range(6):
            label = ("Eis", "sand")[number // 3]
            write_csv(terrains / label / f"new_{number}.csv", signals(50 + number, 350))
        shutil.copy(tmp_path / "w.h5", tmp_path / "once.h5")
        prepare(terrains, tmp_path / "once.h5", **arguments, resume=True)
        prepare(terrains, tmp_path / "w.h5", **arguments, exclude=["sand/new_*"], resume=True)
        between = by_recording(tmp_path / "w.h5")
        prepare(terrains, tmp_path / "w.h5", **arguments, resume=True)
        after, once = by_recording(tmp_path / "w.h5"), by_recording(tmp_path / "once.h5")
        for name, one in between.items():
            assert_same(after[name], one, name)
        assert after.keys() == once.keys()
        if "split_by" in arguments:
            assert digest(tmp_path / "w.h5") == digest(tmp_path / "once.h5")

    def test_a_new_recording_of_a_known_group_goes_to_its_part(self, terrains, tmp_path):
        rows = [
            f"{path.relative_to(terrains).as_posix()},{path.parent.name},robot {i % 4}"
            for i, path in enumerate(sorted(terrains.rglob("*.csv*")))
        ]
        write_csv(terrains / "sand" / "new.csv", signals(77))
        write_csv(terrains / "sand" / "newer.csv", signals(78))
        head = ["path,label,group"]
        (terrains / "manifest.csv").write_text("\n".join([*head, *rows]))
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        old = by_recording(tmp_path / "w.h5")
        for robot in range(2):
            more = [f"sand/new.csv,sand,robot {robot}", f"sand/newer.csv,sand,robot {3 - robot}"]
            (terrains / "manifest.csv").write_text("\n".join([*head, *more, *rows]))
            prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
            windows = read_windows(tmp_path / "w.h5")
            parts = {str(g): set(windows.split[windows.groups == g]) for g in set(windows.groups)}
            assert {len(part) for part in parts.values()} == {1}
            new = by_recording(tmp_path / "w.h5")
            for name, one in old.items():
                assert_same(new[name], one, name)
        assert not inspect_leakage(tmp_path / "w.h5")[0]

    def test_a_copy_or_a_renamed_file_stays_in_the_part_of_its_windows(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        old = by_recording(tmp_path / "w.h5")
        for path in sorted(terrains.rglob("pro_0[02]*")):
            shutil.copy(path, path.with_name("copy_" + path.name))
        for path in sorted(terrains.rglob("pro_0[13]*")):
            path.rename(path.with_name("late_" + path.name))
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        assert summary.copies == []
        for name, one in by_recording(tmp_path / "w.h5").items():
            was = old[name.replace("copy_", "").replace("late_", "")]
            assert set(one["split"]) == set(was["split"]), name

    def test_channels_keep_the_order_of_the_file(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        old = by_recording(tmp_path / "w.h5")
        columns = dict(reversed(signals(70).items()))
        write_csv(terrains / "Eis" / "a_first.csv", columns)
        prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        windows = read_windows(tmp_path / "w.h5")
        assert windows.channels == ("current", "speed")
        assert windows.provenance["input_channels"] == ["current", "speed"]
        new = by_recording(tmp_path / "w.h5")
        np.testing.assert_allclose(
            new["Eis/a_first"]["X"][0, :, 0], columns["current"][:40], rtol=1e-5, atol=1e-5
        )
        for name, one in old.items():
            assert_same(new[name], one, name)

    def test_different_channels_are_attributed_to_the_new_recording(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        for number in range(20):
            columns = signals(70 + number, 100)
            del columns["speed"]
            write_csv(terrains / "Eis" / f"bare_{number}.csv", columns)
        with pytest.raises(RecordingError, match=r"bare_0\.csv: channels current; Eis/pro_00"):
            prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True, on_error="skip")
        assert (summary.n_recordings, len(summary.dropped)) == (12, 20)

    def test_a_new_sensor_is_missing_in_the_other_recordings(self, tmp_path):
        folder, reading = write_sensors(tmp_path / "logs")
        prepare(folder, tmp_path / "w.h5", window_s=1, **reading)
        columns = signals(0)
        write_csv(folder / "ice" / "gps_0.csv", {"time": columns["time"], "x": columns["speed"]})
        reading = {**reading, "files": [*reading["files"], "gps_*"]}
        with pytest.raises(RecordingError, match="has no file for gps"):
            prepare(folder, tmp_path / "w.h5", window_s=1, **reading, resume=True)

    def test_a_short_recording_of_an_existing_class_is_not_a_loss(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        write_csv(terrains / "sand" / "short.csv", signals(5, 20))
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        assert [one["reason"] for one in summary.dropped] == ["shorter than a window"]
        assert prepare(terrains, tmp_path / "w.h5", **PLAIN).action == "none"

    def test_parts_that_cannot_be_kept_are_reported(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        for name, one in by_recording(tmp_path / "w.h5").items():
            if set(one["split"]) == {"test"} and name.startswith("sand"):
                next(terrains.glob(f"{name}.csv*")).unlink()
        with pytest.raises(SplitError, match="class 'sand' in test") as raised:
            prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        assert "without `resume`, all groups are split again" in raised.value.__notes__[0]
        assert prepare(terrains, tmp_path / "w.h5", **PLAIN).action == "replaced"

    def test_other_options_are_named_and_replace_without_resume(self, terrains, tmp_path):
        path = tmp_path / "w.h5"
        prepare(terrains, path, **PLAIN)
        before = digest(path)
        for other, words in (
            ({"window_s": 1.5}, "`window_s` was 2, now 1.5"),
            ({"split": (0.5, 0.5, 0)}, "`split` was 0.6, 0.2, 0.2, now 0.5, 0.5, 0"),
            (
                {"scale": "robust", "hop_s": None},
                "`hop_s` was 1, now not given; `scale` was standard, now robust",
            ),
        ):
            with pytest.raises(ArgumentError) as raised:
                prepare(terrains, path, **{**PLAIN, **other}, resume=True)
            assert words in str(raised.value)
            assert "leave out `resume`" in str(raised.value)
            assert digest(path) == before
        summary = prepare(terrains, path, **{**PLAIN, **other})
        assert summary.action == "replaced"
        assert words.replace("`", "") in summary.headline

    def test_options_that_choose_recordings_extend(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN, exclude=["sand/pro_03"])
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN, exclude=["Eis/pro_03"], resume=True)
        assert summary.action == "extended"
        assert summary.changes == [
            "exclude was sand/pro_03, now Eis/pro_03",
            "1 new recording: sand/pro_03",
            "1 removed recording: Eis/pro_03",
        ]


INTERRUPTED = """
import os, signal, sys
from sensorseq.prepare import prepare

for output, at, n_done in zip(*[iter(sys.argv[2:])] * 3):
    def kill(stage, done, total):
        if (stage, done) == (at, int(n_done)):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        prepare(sys.argv[1], output, window_s=2, hop_s=1, resume=True, progress=kill)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class TestKilled:
    def test_a_killed_extension_leaves_the_file_intact_and_is_resumed(self, terrains, tmp_path):
        once = tmp_path / "once" / "w.h5"
        once.parent.mkdir()
        prepare(terrains, once, **PLAIN)
        before, moments, words = digest(once), [("recordings", 9, 5), ("merge", 15, 11)], []
        for stage, done, _ in moments:
            (tmp_path / stage).mkdir()
            words += [shutil.copy(once, tmp_path / stage), stage, str(done)]
        change(terrains)
        prepare(terrains, once, **PLAIN, resume=True)
        command = [sys.executable, "-c", INTERRUPTED, terrains, *words]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ended.stdout.split() == [str(-signal.SIGKILL)] * 2
        for stage, _, n_parts in moments:
            folder = tmp_path / stage
            path = folder / "w.h5"
            assert digest(path) == before
            assert len(list(folder.glob(".w.h5.*.tmp"))) == (stage == "merge")
            assert len(list((folder / "w.h5.parts").glob("*.part"))) == n_parts
            summary = prepare(terrains, path, **PLAIN, resume=True)
            assert summary.n_reused == 10 + n_parts
            assert digest(path) == digest(once)
            assert names_in(folder) == ["w.h5"]

    def test_an_interrupted_replacement_continues(self, terrains, tmp_path):
        path = tmp_path / "w.h5"
        prepare(terrains, path, **PLAIN)
        prepare(terrains, tmp_path / "anew.h5", window_s=1)

        stop = interrupt_at("recordings", 7)
        with pytest.raises(KeyboardInterrupt) as raised:
            prepare(terrains, path, window_s=1, progress=stop)
        (note,) = raised.value.__notes__
        assert note.startswith(f"{path}.parts keeps 7 finished recordings; resume")
        summary = prepare(terrains, path, window_s=1, resume=True)
        assert (summary.action, summary.n_reused) == ("replaced", 7)
        assert digest(path) == digest(tmp_path / "anew.h5")


class TestOtherFiles:
    @pytest.mark.parametrize("name", ["notes.txt", "model.h5", "cut.h5", "recording.csv"])
    def test_a_file_of_another_kind_is_refused_before_anything_is_read(
        self, terrains, tmp_path, name, monkeypatch
    ):
        path = tmp_path / name
        path.write_text("time,current\n0,1\n")
        if name == "model.h5":
            with h5py.File(path, "w") as file:
                file["weights"] = np.zeros(3)
        if name == "cut.h5":
            prepare(terrains, tmp_path / "w.h5", **PLAIN)
            path.write_bytes((tmp_path / "w.h5").read_bytes()[:-1000])
        before = digest(path)
        monkeypatch.setattr("sensorseq.prepare.stages.make_part", None)
        monkeypatch.setattr("sensorseq.prepare.stages.digests_of", None)
        for resume in (False, True):
            with pytest.raises(PreparedFileError, match=r"is kept.*Remove it, or choose"):
                prepare(terrains, path, **PLAIN, resume=resume)
        assert digest(path) == before

    def test_an_empty_file_is_replaced_like_a_missing_one(self, terrains, tmp_path):
        (tmp_path / "w.h5").touch()
        assert prepare(terrains, tmp_path / "w.h5", **PLAIN).action == "written"

    def test_a_file_without_a_record_is_replaced_and_not_extended(self, terrains, tmp_path):
        prepare(terrains, tmp_path / "w.h5", **PLAIN)
        write_windows(tmp_path / "w.h5", read_windows(tmp_path / "w.h5"))
        with pytest.raises(ArgumentError, match="prepared by a different version of sensorseq"):
            prepare(terrains, tmp_path / "w.h5", **PLAIN, resume=True)
        summary = prepare(terrains, tmp_path / "w.h5", **PLAIN)
        assert "prepared by a different version of sensorseq" in summary.headline


BY_ITSELF = """
import sys
from sensorseq.prepare import prepare
prepare(sys.argv[1], sys.argv[2], window_s=2, hop_s=1, resume=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_extensions_killed_at_random_moments_end_with_the_bytes_of_one_never_killed(
    terrains, tmp_path, seed
):
    path, once = tmp_path / "w.h5", tmp_path / "once" / "w.h5"
    prepare(terrains, path, **PLAIN)
    once.parent.mkdir()
    shutil.copy(path, once)
    before = digest(path)
    change(terrains)
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", BY_ITSELF, terrains, once], cwd=ROOT, check=True)
    whole_s = time.perf_counter() - began_s
    rng = np.random.default_rng(seed)
    n_kills = 0
    for _ in range(8):
        words = [sys.executable, "-c", BY_ITSELF, terrains, path]
        with subprocess.Popen(words, cwd=ROOT) as process:
            try:
                process.wait(rng.uniform(0.3, 1.0) * whole_s)
            except subprocess.TimeoutExpired:
                process.kill()
                n_kills += 1
        if process.returncode == 0:
            break
        assert digest(path) in (before, digest(once))
    prepare(terrains, path, **PLAIN, resume=True)
    assert digest(path) == digest(once)
    assert names_in(tmp_path) == ["logs", "once", "w.h5"]
    assert n_kills
