import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc
from fits import plain_classifier
from limited_files import files_limited_to
from preparing import assert_same_windows, digest, interrupt_at, names_in, prepare_plainly
from tables import write_csv
from terrains import LABELED_WAYS, LOGS, WAYS, make_terrains, signals, write_spans

import sensorseq
from sensorseq.errors import (
    ArgumentError,
    ConfigurationError,
    InputError,
    PreparedFileError,
    RecordingError,
    SplitError,
    WindowError,
)
from sensorseq.evaluation.predict import predict_recordings
from sensorseq.io.prepared import PreparedFile, read_windows
from sensorseq.prepare import prepare
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.scale import Scaler
from sensorseq.readers import read_recordings
from sensorseq.windows import WindowSet


@pytest.fixture
def terrains(tmp_path):
    return make_terrains(tmp_path / "müde Räder")


@pytest.fixture(scope="module")
def whole_digest(tmp_path_factory):
    """The digest of the file that `prepare_plainly` makes from the terrains, in any folder."""
    folder = tmp_path_factory.mktemp("whole")
    prepare_plainly(make_terrains(folder / "logs"), folder / "w.h5")
    return digest(folder / "w.h5")


class TestLaws:
    @pytest.mark.parametrize(
        "arguments",
        [
            {**WAYS[0], **WAYS[1]},
            *WAYS[2:4],
            {**WAYS[4], **WAYS[5]},
            WAYS[6],
            {**WAYS[7], **WAYS[8], "window_s": 17},
            {**WAYS[10], **WAYS[11]},
        ],
        ids=str,
    )
    def test_one_recording_at_a_time_gives_the_same_as_all_together(
        self, terrains, tmp_path, arguments
    ):
        summary = prepare(terrains, tmp_path / "w.h5", **arguments)
        pipeline = PreparePipeline(**arguments)
        expected = pipeline.prepare(read_recordings(terrains))
        with PreparedFile(tmp_path / "w.h5") as file:
            windows = file.windows()
            np.testing.assert_array_equal(file.sample_indices, pipeline.sample_indices_)
            scaler = Scaler.from_dict(file.scaler)
        assert_same_windows(windows, expected)
        assert windows.channels == expected.channels
        assert windows.sample_rate_hz == expected.sample_rate_hz
        scaled = pipeline.scaler_.transform(expected.X, expected.lengths)
        again = scaler.transform(windows.X, windows.lengths)
        np.testing.assert_array_equal(again, scaled)
        assert summary.n_windows == len(windows)
        assert summary.n_recordings == 12

    @pytest.mark.parametrize(
        ("logs", "arguments"),
        [
            pytest.param(LOGS[logs], LABELED_WAYS[way], id=f"{LOGS[logs].__name__}-{way}")
            for logs, way in ((0, 0), (1, 1), (2, 2), (0, 3))
        ],
    )
    def test_label_spans_and_sensors_also_give_the_same_in_memory_and_interrupted(
        self, tmp_path, logs, arguments
    ):
        folder, reading = logs(tmp_path / "logs")
        prepare(folder, tmp_path / "w.h5", **reading, **arguments)
        expected = PreparePipeline(**arguments).prepare(read_recordings(folder, **reading))
        assert_same_windows(read_windows(tmp_path / "w.h5"), expected)
        stop = interrupt_at("merge")
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, tmp_path / "r.h5", **reading, **arguments, progress=stop)
        prepare(folder, tmp_path / "r.h5", **reading, **arguments, resume=True)
        assert digest(tmp_path / "r.h5") == digest(tmp_path / "w.h5")

    def test_numpy_numbers_are_accepted_as_numbers(self, terrains, tmp_path):
        plain = {"window_s": 2, "hop_s": 0.5, "sample_rate_hz": 10, "attenuation_db": 70.0}
        types = (np.int64, np.float32, np.int32, np.float32)
        of_numpy = {key: type_(plain[key]) for key, type_ in zip(plain, types, strict=True)}
        rated = {"current": 2.0, "speed": 1.0}
        prepare(terrains, tmp_path / "a.h5", **plain, scale="physical", rated=rated)
        rated = {name: np.float32(value) for name, value in rated.items()}
        prepare(terrains, tmp_path / "b.h5", **of_numpy, scale="physical", rated=rated)
        assert digest(tmp_path / "a.h5") == digest(tmp_path / "b.h5")

    @pytest.mark.parametrize("arguments", WAYS, ids=str)
    def test_a_configuration_file_equals_an_object(self, tmp_path, arguments):
        pipeline = PreparePipeline(**arguments)
        (tmp_path / "c.toml").write_text(pipeline.to_toml(), encoding="utf-8")
        again = PreparePipeline.from_toml(tmp_path / "c.toml")
        assert again.configuration == pipeline.configuration
        assert again.to_toml() == pipeline.to_toml()

    def test_windows_are_the_samples_of_the_file_unscaled(self, tmp_path):
        columns = signals(3)
        write_csv(tmp_path / "one.csv", columns)
        prepare(tmp_path / "one.csv", tmp_path / "w.h5", window_s=2, split="none")
        windows = read_windows(tmp_path / "w.h5")
        assert windows.sample_rate_hz == 20.0
        assert windows.X.shape == (10, 40, 2)
        whole = np.column_stack([columns["current"], columns["speed"]])
        np.testing.assert_allclose(windows.X.reshape(400, 2), whole, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(windows.start_s, np.arange(10) * 2.0, atol=1e-12)
        assert (windows.y, windows.split) == (None, None)

    def test_a_manifest_keeps_its_groups_together(self, terrains, tmp_path):
        rows = [
            f"{path.relative_to(terrains).as_posix()},{path.parent.name},robot {i % 3}"
            for i, path in enumerate(sorted(terrains.rglob("*.csv*")))
        ]
        (terrains / "manifest.csv").write_text("\n".join(["path,label,group", *rows]))
        prepare_plainly(terrains, tmp_path / "w.h5")
        windows = read_windows(tmp_path / "w.h5")
        assert set(windows.groups) == {"robot 0", "robot 1", "robot 2"}
        assert {len(set(windows.split[windows.groups == g])) for g in set(windows.groups)} == {1}

    def test_a_recording_to_be_predicted_goes_through_the_same_steps(self, terrains, tmp_path):
        arguments = {"window_s": 1.3, "hop_s": 0.6, "sample_rate_hz": 15, "channels": ["speed"]}
        prepare(terrains, tmp_path / "w.h5", **arguments)
        test = read_windows(tmp_path / "w.h5", "test")
        name = str(test.recording_id[0])
        (path,) = terrains.glob(f"{name}.csv*")
        again = RecordingPlan.recorded(test.provenance).prepare(read_recordings(path))
        np.testing.assert_array_equal(again.X, test.X[test.recording_id == name])
        with pytest.raises(WindowError, match="have no record of how they were made"):
            RecordingPlan.recorded(WindowSet(np.zeros((1, 2, 1))).provenance)


class TestSameBytes:
    @pytest.mark.long
    def test_the_file_is_the_same_if_prepared_twice_elsewhere_or_in_processes(
        self, terrains, tmp_path
    ):
        prepare_plainly(terrains, tmp_path / "a.h5")
        copy = tmp_path / "elsewhere" / "copy"
        shutil.copytree(terrains, copy)
        prepare_plainly(copy, tmp_path / "b.h5", jobs=2)
        assert digest(tmp_path / "a.h5") == digest(tmp_path / "b.h5")
        assert names_in(tmp_path) == ["a.h5", "b.h5", "elsewhere", "müde Räder"]

    @pytest.mark.parametrize(("stage", "after"), [("rates", 7), ("recordings", 7), ("merge", 7)])
    def test_a_resumed_run_gives_the_same_file(
        self, terrains, whole_digest, tmp_path, stage, after
    ):
        stop = interrupt_at(stage, after)
        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(terrains, tmp_path / "w.h5", progress=stop)
        finished = {"rates": 0, "recordings": after, "merge": 12}[stage]
        left = ["müde Räder"] + ["w.h5.parts"] * (finished > 0)
        assert names_in(tmp_path) == left
        if finished:
            assert len(names_in(tmp_path / "w.h5.parts")) == finished
        summary = prepare_plainly(terrains, tmp_path / "w.h5", resume=True)
        assert summary.n_reused == finished
        assert digest(tmp_path / "w.h5") == whole_digest
        assert names_in(tmp_path) == ["müde Räder", "w.h5"]

    @pytest.fixture
    def interrupted(self, terrains, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(terrains, tmp_path / "w.h5", progress=interrupt_at("merge"))

    def test_recordings_that_changed_are_not_reused(self, terrains, interrupted, tmp_path):
        write_csv(terrains / "sand" / "pro_00.csv", signals(77))
        summary = prepare_plainly(terrains, tmp_path / "w.h5", resume=True)
        assert summary.n_reused == 11
        prepare_plainly(terrains, tmp_path / "anew.h5")
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "anew.h5")

    def test_parts_made_with_other_arguments_are_not_reused(self, terrains, interrupted, tmp_path):
        begun = Path(shutil.copytree(tmp_path / "w.h5.parts", tmp_path / "begun"))
        changes = {"hop_s": 2, "channels": ["speed"], "max_gap_s": 3, "sample_rate_hz": 10}
        for name, value in changes.items():
            output = tmp_path / f"{name}.h5"
            shutil.copytree(begun, f"{output}.parts")
            summary = prepare_plainly(terrains, output, resume=True, **{name: value})
            assert summary.n_reused == 0, name
        shutil.copytree(begun, tmp_path / "same.h5.parts")
        assert prepare_plainly(terrains, tmp_path / "same.h5", resume=True).n_reused == 12

    def test_a_damaged_part_is_made_again(self, terrains, interrupted, whole_digest, tmp_path):
        parts = sorted((tmp_path / "w.h5.parts").iterdir())
        parts[0].write_bytes(parts[0].read_bytes()[:-50])
        parts[1].write_bytes(b"")
        data = bytearray(parts[2].read_bytes())
        data[len(data) // 2] ^= 1
        parts[2].write_bytes(data)
        summary = prepare_plainly(terrains, tmp_path / "w.h5", resume=True)
        assert summary.n_reused == 9
        assert digest(tmp_path / "w.h5") == whole_digest

    def test_without_resume_nothing_is_reused(self, terrains, interrupted, tmp_path):
        assert prepare_plainly(terrains, tmp_path / "w.h5").n_reused == 0


class TestProvenance:
    def test_the_file_records_its_inputs_and_how_it_was_made(self, terrains, tmp_path):
        write_csv(terrains / "sand" / "short.csv", signals(5, 20))
        summary = prepare_plainly(terrains, tmp_path / "w.h5", exclude=["Eis/pro_03"])
        provenance = read_windows(tmp_path / "w.h5", "test").provenance
        window = provenance["configuration"]["window"]
        assert (window["window_s"], window["hop_s"]) == (2, 1)
        assert provenance["configuration"]["input"]["exclude"] == ["Eis/pro_03"]
        assert provenance["sample_rate_from"] == "median of the recordings"
        assert provenance["versions"]["sensorseq"] == sensorseq.__version__
        assert set(provenance["versions"]) == {"sensorseq", "numpy"}
        first = provenance["recordings"][0]
        assert first["recording_id"] == "Eis/pro_00"
        path = terrains / "Eis" / "pro_00.csv"
        facts = {"sha256": digest(path), "size_bytes": path.stat().st_size}
        assert first["sources"] == [{"path": "Eis/pro_00.csv", **facts}]
        assert len(provenance["recordings"]) == 11
        facts = {"start_s": 0.0, "n_samples": 20, "n_windows": 0, "reason": "shorter than a window"}
        assert provenance["dropped"] == [{"recording_id": "sand/short", **facts}]
        assert summary.dropped == provenance["dropped"]
        assert "left out 1: shorter than a window" in str(summary)
        assert str(tmp_path) not in str(provenance)
        assert b"%s" % str(tmp_path).encode() not in (tmp_path / "w.h5").read_bytes()

    def test_a_long_run_of_missing_samples_divides_and_a_short_one_is_filled(self, tmp_path):
        columns = signals(1, 800)
        current = columns["current"].astype(object)
        current[100:104] = ""
        current[400:440] = ""
        write_csv(tmp_path / "a.csv", {**columns, "current": current})
        prepare(tmp_path / "a.csv", tmp_path / "w.h5", window_s=2, split="none")
        windows = read_windows(tmp_path / "w.h5")
        assert windows.provenance["recordings"][0]["n_pieces"] == 2
        starts_s = [*range(0, 20, 2), *range(22, 40, 2)]
        np.testing.assert_allclose(windows.start_s, starts_s, atol=1e-9)
        assert np.isfinite(windows.X).all()

    def test_columns_without_numbers_are_counted(self, terrains, tmp_path):
        for path in sorted(terrains.rglob("*.csv")):
            lines = path.read_text().splitlines()
            lines = [lines[0] + ",terrain", *(f"{line},mud" for line in lines[1:])]
            path.write_text("\n".join(lines))
        summary = prepare_plainly(terrains, tmp_path / "w.h5")
        assert summary.dropped_columns == {"terrain": 6}
        assert summary.channels == ("current", "speed")
        said = " ".join(str(summary).split())
        assert "left out column 'terrain' of 6 recordings, because not every" in said

    def test_channels_in_a_different_order_are_the_same_channels(self, terrains, tmp_path):
        path = terrains / "sand" / "pro_02.csv"
        columns = signals(22, 380)
        write_csv(path, columns)
        prepare_plainly(terrains, tmp_path / "a.h5")
        write_csv(path, dict(reversed(columns.items())))
        prepare_plainly(terrains, tmp_path / "b.h5")
        one, other = (read_windows(tmp_path / name).X for name in ("a.h5", "b.h5"))
        np.testing.assert_array_equal(one, other)

    def test_a_summary_can_be_converted_to_plain_values(self, terrains, tmp_path):
        summary = prepare_plainly(terrains, tmp_path / "w.h5")
        told = json.loads(json.dumps(summary.to_dict()))
        assert told["n_windows"] == sum(sum(c.values()) for c in told["counts"].values())
        assert told["path"] == str(tmp_path / "w.h5")
        assert told["size_bytes"] == (tmp_path / "w.h5").stat().st_size

    def test_very_different_rates_are_reported_with_a_remedy(self, terrains, tmp_path):
        alike = prepare_plainly(terrains, tmp_path / "a.h5")
        assert "Upsampling" not in str(alike)
        assert alike.own_rates_hz == pytest.approx((20.0, 20.0))
        write_csv(terrains / "sand" / "pro_02.csv", signals(22, 100, rate_hz=5.0))
        apart = prepare_plainly(terrains, tmp_path / "b.h5")
        assert apart.own_rates_hz == pytest.approx((5.0, 20.0))
        assert "sample_rate_hz=5, or leave" in " ".join(str(apart).split())

    def test_the_balanced_rows_are_reported_by_class(self, terrains, tmp_path):
        plain = prepare_plainly(terrains, tmp_path / "w.h5")
        assert plain.n_fitted == {}
        summary = prepare_plainly(terrains, tmp_path / "w.h5", balance="undersample")
        least = min(summary.counts["train"].values())
        assert summary.n_fitted == dict.fromkeys(summary.counts["train"], least)
        said = " ".join(str(summary).split())
        assert f"Training uses {3 * least} balanced windows" in said

    def test_a_column_of_words_is_suggested_as_the_label_if_none_is_known(self, terrains, tmp_path):
        words = np.array(["ice", "mud"])[np.arange(400) // 200]
        for number in range(3):
            write_csv(tmp_path / "logs" / f"{number}.csv", {**signals(number), "surface": words})
        summary = prepare_plainly(tmp_path / "logs", tmp_path / "w.h5")
        assert "label_column='surface'" in str(summary)

    def test_a_recording_that_is_the_beginning_of_another_is_named(self, terrains, tmp_path):
        lines = (terrains / "sand" / "pro_02.csv").read_text().splitlines()
        (terrains / "sand" / "twin.csv").write_text("\n".join(lines[:201]) + "\n")
        apart = 0
        shares = [(train, 1 - train, 0.0) for train in (0.4, 0.6, 0.8)]
        for split in shares:
            summary = prepare_plainly(terrains, tmp_path / "w.h5", hop_s=2, split=split)
            windows = read_windows(tmp_path / "w.h5")
            names = ["sand/pro_02", "sand/twin"]
            parts = [str(windows.split[windows.recording_id == name][0]) for name in names]
            expected = []
            if parts[0] != parts[1]:
                apart += 1
                expected = [{"recordings": names, "parts": parts, "n_windows": 5}]
                assert "LEAK: 5 windows of sand/twin" in str(summary)
            assert summary.copies == expected
        assert 0 < apart < len(shares)

    def test_progress_counts_every_stage_to_its_end(self, terrains, tmp_path):
        seen = []
        prepare_plainly(terrains, tmp_path / "w.h5", progress=lambda *step: seen.append(step))
        stages = ("rates", "recordings", "merge")
        assert seen == [(stage, done, 12) for stage in stages for done in range(13)]


def spoil(change):
    """Rewrite the lines of one recording."""

    def spoiled(terrains):
        path = terrains / "sand" / "pro_02.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())))

    return spoiled


def replaced(row, text):
    return spoil(lambda lines: [*lines[:row], text, *lines[row + 1 :]])


def cut_gzip(terrains):
    path = terrains / "sand" / "pro_01.csv.gz"
    path.write_bytes(path.read_bytes()[:-40])


SPOILT = {
    "a word": (replaced(7, "0.3,oops,2"), r"pro_02\.csv, row 7, column 'current': 'oops'.*empty"),
    "beyond float32": (replaced(7, "0.3,1e300,2"), r"pro_02\.csv: .*'current' is 1e\+300 .*7, out"),
    "other channels": (
        replaced(0, "time,current,velocity"),
        r"pro_02\.csv: channels current, velocity; .*most others have current, speed.*`channels`",
    ),
    "a channel without numbers": (
        spoil(lambda lines: [lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:])]),
        r"pro_02\.csv: channels current \(speed without numbers\)",
    ),
    "cut gzip": (cut_gzip, r"pro_01\.csv\.gz: not a complete gzip file"),
}


class TestBadInput:
    @pytest.mark.parametrize("spoilt", SPOILT)
    def test_a_damaged_recording_stops_the_run_with_file_row_and_remedy(
        self, terrains, tmp_path, spoilt
    ):
        change, said = SPOILT[spoilt]
        change(terrains)
        with pytest.raises(RecordingError, match=said):
            prepare_plainly(terrains, tmp_path / "w.h5")
        assert not (tmp_path / "w.h5").exists()

    @pytest.mark.parametrize("spoilt", ["a word", "beyond float32", "other channels"])
    def test_a_damaged_recording_can_be_skipped_and_is_reported(self, terrains, tmp_path, spoilt):
        change, _ = SPOILT[spoilt]
        change(terrains)
        n_files = len(list(terrains.rglob("*.*")))
        summary = prepare_plainly(terrains, tmp_path / "w.h5", on_error="skip")
        assert summary.n_recordings == n_files - 1
        (dropped,) = summary.dropped
        assert dropped["recording_id"] == "sand/pro_02"
        assert Path(dropped["reason"].split(",")[0].split(":")[0]).parts[0] == "sand"
        assert read_windows(tmp_path / "w.h5").provenance["dropped"] == summary.dropped

    @pytest.mark.long
    def test_a_damaged_recording_is_also_named_from_another_process(self, terrains, tmp_path):
        SPOILT["a word"][0](terrains)
        with pytest.raises(RecordingError, match=SPOILT["a word"][1]):
            prepare_plainly(terrains, tmp_path / "w.h5", jobs=2)
        assert not (tmp_path / "w.h5").exists()

    def test_a_class_with_too_few_groups_is_named_before_anything_is_read(self, terrains, tmp_path):
        for number in (2, 3):
            next((terrains / "sand").glob(f"pro_0{number}*")).write_bytes(b"never read")
        for number in (0, 1):
            next((terrains / "sand").glob(f"pro_0{number}*")).unlink()
        with pytest.raises(SplitError, match=r"class 'sand': 2 group\(s\)"):
            prepare_plainly(terrains, tmp_path / "w.h5")
        assert names_in(tmp_path) == ["müde Räder"]

    def test_a_class_that_skipping_leaves_too_few_groups_is_named(self, terrains, tmp_path):
        SPOILT["a word"][0](terrains)
        SPOILT["cut gzip"][0](terrains)
        with pytest.raises(SplitError, match="class 'sand': 2 group"):
            prepare_plainly(terrains, tmp_path / "w.h5", on_error="skip")
        assert not (tmp_path / "w.h5").exists()

    def test_a_class_shorter_than_a_window_is_named(self, terrains, tmp_path):
        for number in range(4):
            next((terrains / "sand").glob(f"pro_0{number}*")).unlink()
            write_csv(terrains / "sand" / f"pro_0{number}.csv", signals(number, 25))
        with pytest.raises(WindowError, match=r"class 'sand' has no windows: .* shorter"):
            prepare_plainly(terrains, tmp_path / "w.h5")

    def test_recordings_that_are_all_shorter_than_a_window_are_an_error(self, terrains, tmp_path):
        with pytest.raises(WindowError, match=r"none of 12 recordings.*the longest .* 20\.95 s"):
            prepare_plainly(terrains, tmp_path / "w.h5", window_s=60)

    def test_skipping_every_recording_is_an_error(self, terrains, tmp_path):
        with pytest.raises(RecordingError, match=r"none of 12 .*no column 'clock'"):
            prepare_plainly(terrains, tmp_path / "w.h5", time_column="clock", on_error="skip")

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"window_s": None}, ArgumentError, "window_s is not given"),
            ({"window_s": 0.001}, ArgumentError, "less than one sample"),
            ({"jobs": 0}, ArgumentError, "jobs=0"),
            ({"on_error": "ignore"}, ArgumentError, "on_error='ignore'"),
            ({"split": "never"}, ArgumentError, "split='never'"),
            ({"split": (0.5, 0.5, 0.5)}, ArgumentError, "sum to 1"),
            ({"balance": "undersampel"}, ArgumentError, "Did you mean 'undersample'"),
            ({"max_gap_s": 0.01}, RecordingError, r"pro_00\.csv: .*max_gap_s=0.01 is shorter"),
            ({"config": "nowhere.toml"}, ConfigurationError, r"nowhere\.toml: cannot be read"),
        ],
    )
    def test_an_argument_without_meaning_is_an_error(
        self, terrains, tmp_path, arguments, error, said
    ):
        with pytest.raises(error, match=said) as caught:
            prepare_plainly(terrains, tmp_path / "w.h5", **arguments)
        assert isinstance(caught.value, InputError)
        assert not (tmp_path / "w.h5").exists()


class TestOutput:
    def test_an_older_file_is_kept_until_the_new_one_is_complete(self, terrains, tmp_path):
        path = tmp_path / "w.h5"
        prepare_plainly(terrains, path)
        before = digest(path)

        stop = interrupt_at("merge", 12)

        def fail(*at):
            assert digest(path) == before
            stop(*at)

        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(terrains, path, window_s=1, progress=fail)
        assert digest(path) == before
        assert names_in(tmp_path) == ["müde Räder", "w.h5", "w.h5.parts"]

    @pytest.mark.parametrize("size", [3000, 20_000])
    def test_a_full_disk_is_one_error_and_leaves_no_half_written_file(
        self, terrains, tmp_path, size
    ):
        with (
            files_limited_to(size),
            pytest.raises(PreparedFileError, match=r"cannot be written \(.*free disk space"),
        ):
            prepare_plainly(terrains, tmp_path / "w.h5")
        left = [path.name for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".h5"))]
        assert left == []
        summary = prepare_plainly(terrains, tmp_path / "w.h5", resume=True)
        assert summary.n_reused == (12 if size == 20_000 else 0)

    def test_an_output_that_cannot_be_written_is_an_error_before_anything_is_read(
        self, terrains, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("sensorseq.prepare.stages.read_source_rate", None)
        with pytest.raises(PreparedFileError, match=r"create the folder .*nowhere"):
            prepare_plainly(terrains, tmp_path / "nowhere" / "w.h5")
        with pytest.raises(PreparedFileError, match="is a folder; give a file name"):
            prepare_plainly(terrains, tmp_path)
        monkeypatch.setattr(os, "access", lambda *arguments: False)
        with pytest.raises(PreparedFileError, match=r"w\.h5: .*permission denied"):
            prepare_plainly(terrains, tmp_path / "w.h5")

    def test_two_runs_do_not_write_the_same_file(self, terrains, tmp_path):
        def second(at, done, total):
            if (at, done) == ("recordings", 3):
                with pytest.raises(PreparedFileError, match=r"w\.h5: .* \(in this process"):
                    prepare_plainly(terrains, tmp_path / "w.h5")

        prepare_plainly(terrains, tmp_path / "w.h5", progress=second)


class TestConfiguration:
    def test_a_file_is_equivalent_to_arguments_which_take_precedence(self, terrains, tmp_path):
        config = tmp_path / "c.toml"
        config.write_text('[window]\nwindow_s = 2\nhop_s = 2\n[input]\nexclude = ["sand"]\n')
        prepare(terrains, tmp_path / "a.h5", config=config, hop_s=1)
        prepare(terrains, tmp_path / "b.h5", window_s=2.0, hop_s=1.0, exclude=["sand"])
        one, other = (read_windows(tmp_path / name) for name in ("a.h5", "b.h5"))
        np.testing.assert_array_equal(one.X, other.X)
        assert one.provenance == other.provenance
        prepare(terrains, tmp_path / "c.h5", config=one.provenance["configuration"])
        assert (tmp_path / "c.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_several_sensors_are_put_on_a_common_clock(tmp_path):
    for label in ("ice", "snow"):
        for number in range(3):
            t = np.arange(200) / 20 + 0.5
            write_csv(tmp_path / label / f"pro_{number}.csv", {"time": t, "slow": np.sin(t)})
            t = np.arange(1200) / 100
            write_csv(tmp_path / label / f"imu_{number}.csv.gz", {"time": t, "fast": np.cos(3 * t)})
    arguments = {"files": ["pro_*", "imu_*"], "pair": "{sensor}_{recording}.*", "window_s": 1}
    summary = prepare(tmp_path, tmp_path / "w.h5", **arguments)
    windows = read_windows(tmp_path / "w.h5")
    assert (windows.sample_rate_hz, windows.channels) == (100.0, ("slow", "fast"))
    assert summary.counts["test"] == {"ice": 9, "snow": 9}
    t = windows.start_s[:, np.newaxis] + np.arange(100) / 100
    assert np.abs(windows.X[:, :, 0] - np.sin(t)).max() < 1e-3
    assert np.abs(windows.X[:, :, 1] - np.cos(3 * t)).max() < 1e-3
    sources = windows.provenance["recordings"][0]["sources"]
    assert [source["path"] for source in sources] == ["ice/pro_0.csv", "ice/imu_0.csv.gz"]


@pytest.mark.slow
@needs_borealtc
class TestBorealTC:
    """Window counts equal the numbers of 5-s partitions that another program found in the data."""

    arguments = {"exclude": ["MIXED"], "time_column": "time", "window_s": 5}  # noqa: RUF012
    classes = ("ASPHALT", "FLOORING", "ICE", "SANDY_LOAM", "SNOW")

    def counts(self, path):
        y = read_windows(path).y
        return dict(zip(*(a.tolist() for a in np.unique(y, return_counts=True)), strict=True))

    def test_motor_currents_give_the_known_windows(self, tmp_path):
        summary = prepare(BOREALTC, tmp_path / "w.h5", files="pro_*.csv", **self.arguments)
        assert (summary.n_recordings, summary.n_windows, summary.window_samples) == (71, 1404, 32)
        assert summary.sample_rate_hz == 6.5
        counts = dict(zip(self.classes, (111, 425, 454, 129, 285), strict=True))
        assert self.counts(tmp_path / "w.h5") == counts

    def test_motor_currents_are_unchanged_at_their_own_rate(self, tmp_path):
        prepare(BOREALTC, tmp_path / "w.h5", files="pro_*.csv", **self.arguments)
        windows = read_windows(tmp_path / "w.h5")
        (recording,) = read_recordings(BOREALTC / "SNOW" / "pro_07.csv")
        mine = np.flatnonzero(windows.recording_id == "SNOW/pro_07")
        for k, row in enumerate(mine):
            first = int(np.ceil(32.5 * k))
            own = recording.values[first : first + 32]
            np.testing.assert_allclose(windows.X[row], own, rtol=1e-6)

    def test_motor_currents_and_the_inertial_unit_on_a_common_clock(self, tmp_path):
        arguments = {**self.arguments, "files": ["pro_*.csv", "imu_*.csv.gz"]}
        arguments["pair"] = "{sensor}_{recording}.*"
        with pytest.raises(RecordingError, match=r"FLOORING/04' has no file for imu"):
            prepare(BOREALTC, tmp_path / "w.h5", **arguments)
        summary = prepare(BOREALTC, tmp_path / "w.h5", on_error="skip", jobs=2, **arguments)
        dropped = [one["recording_id"] for one in summary.dropped]
        assert dropped == ["FLOORING/04", "FLOORING/06", "ICE/01"]
        assert summary.n_windows == 897
        counts = dict(zip(self.classes, (110, 216, 164, 126, 281), strict=True))
        assert self.counts(tmp_path / "w.h5") == counts

    def test_a_column_of_words_is_not_a_channel(self, tmp_path):
        prepare(BOREALTC / "MIXED", tmp_path / "w.h5", window_s=5, split="none")
        assert read_windows(tmp_path / "w.h5").channels == ("curL", "curR", "velL", "velR")


class TestWordsOfErrors:
    """Each message names the actual cause, not the usual one."""

    def test_windows_lost_because_of_labels_are_not_called_short(self, tmp_path):
        folder, _ = write_spans(tmp_path / "logs")
        for arguments, words in (
            ({"window_s": 9, "label_rule": "majority", "min_purity": 1.0}, "majority label"),
            ({"window_s": 9}, "all its label spans are shorter"),
        ):
            with pytest.raises(WindowError, match=words):
                prepare(folder, tmp_path / "w.h5", **arguments)

    def test_a_class_without_training_windows_is_reported(self, tmp_path):
        folder, by = tmp_path / "logs", {"label_column": "surface"}
        for number in range(4):
            surface = np.repeat(["ice", "mud"], 200)
            write_csv(folder / f"run_{number}.csv", {**signals(number), "surface": surface})
        arguments = {"window_s": 1.0, "label_rule": "centre", "train_hop_s": 60.0}
        for attempt in (
            lambda: prepare(folder, tmp_path / "w.h5", **by, **arguments),
            lambda: PreparePipeline(**arguments).prepare(read_recordings(folder, **by)),
        ):
            with pytest.raises(WindowError, match=r"no training window of class 'mud'"):
                attempt()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('window_s = 2\n[[steps]]\nkind = "detrnd"', ["'detrend'", "steps[0]"]),
            ('window_s = 2\n[[steps]]\nkind = "detrend"\nwindo_s = 1', ["'window_s'", "steps[0]"]),
            ('window_s = 2\nlabel_rule = "majorty"', ["'majority'"]),
        ],
    )
    def test_an_error_in_a_configuration_names_the_configuration(
        self, terrains, tmp_path, text, words
    ):
        file = tmp_path / "steps.toml"
        file.write_text(f"[window]\n{text}\n")
        for attempt in (
            lambda: PreparePipeline.from_toml(file),
            lambda: prepare(terrains, tmp_path / "w.h5", config=file),
        ):
            with pytest.raises(InputError) as caught:
                attempt()
            said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
            for word in (str(file), *words):
                assert word in said, said


def test_units_can_be_given_for_files_without_units(tmp_path):
    for label in ("ice", "mud"):
        for number in range(3):
            columns = signals(number + 7 * (label == "mud"))
            write_csv(tmp_path / "logs" / label / f"pro_{number}.csv", columns)
    (tmp_path / "c.toml").write_text(
        '[input]\nunits = { current = "mA", speed = "V" }\n[window]\nwindow_s = 2\n'
        '[[steps]]\nkind = "power"\ncurrent = "current"\nvoltage = "speed"\n'
    )
    prepare(tmp_path / "logs", tmp_path / "w.h5", config=tmp_path / "c.toml")
    windows = read_windows(tmp_path / "w.h5")
    assert windows.provenance["recordings"][0]["units"] == ["mA", "V", "W"]
    current, voltage, power = np.moveaxis(windows.X, 2, 0)
    np.testing.assert_allclose(power, current * voltage / 1000, rtol=1e-5, atol=1e-7)
    model = plain_classifier(hidden_size=2, max_epochs=1, random_state=0).fit(tmp_path / "w.h5")
    (found,) = predict_recordings(model, [tmp_path / "logs" / "ice" / "pro_1.csv"])
    assert len(found.start_s) == (windows.recording_id == "ice/pro_1").sum() > 0
    power = {"kind": "power", "current": "current", "voltage": "speed"}
    with pytest.raises(InputError, match="unit"):
        prepare(tmp_path / "logs", tmp_path / "w.h5", window_s=2, steps=[power])
    with pytest.raises(RecordingError, match=r"pro_0\.csv: no channel 'curent'.*'current'"):
        prepare(tmp_path / "logs", tmp_path / "w.h5", window_s=2, units={"curent": "A"})


def test_a_label_column_may_be_missing_in_recordings_to_be_predicted(tmp_path):
    for number in range(3):
        columns = signals(number)
        surface = np.array(["1", "2", "stop"])[(columns["time"] // 2).astype(int) % 3]
        write_csv(tmp_path / "logs" / f"run_{number}.csv", {**columns, "surface": surface})
    write_csv(tmp_path / "new.csv", signals(0))
    prepare(tmp_path / "logs", tmp_path / "w.h5", window_s=1, label_column="surface")
    model = plain_classifier(hidden_size=2, max_epochs=1, device="cpu", random_state=0)
    model.fit(tmp_path / "w.h5")
    paths = [tmp_path / "logs" / "run_0.csv"], [tmp_path / "new.csv"]
    (labeled,), (plain,) = (predict_recordings(model, path) for path in paths)
    np.testing.assert_array_equal(labeled.probability, plain.probability)
    assert set(labeled.classes) == {"1", "2", "stop"}
