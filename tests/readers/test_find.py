import numpy as np
import pytest
from small_recordings import write_recordings

from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import find_recordings, read_recordings
from sensorseq.recording import LabelSpan


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("time,a\n0,1\n")
    return folder


def ids(sources):
    return [source.recording_id for source in sources]


@pytest.fixture
def terrains(tmp_path):
    return touch(
        tmp_path / "müde Räder",
        "ICE/pro_01.csv",
        "ICE/pro_00.csv",
        "SNOW/day 1/pro_00.csv.gz",
        "SNOW/pro_02.parquet",
        "SNOW/.hidden/pro_03.csv",
        "SNOW/._pro_02.csv",
        "README.md",
    )


def test_a_folder_for_each_label_gives_recordings_in_order_of_their_ids(terrains):
    sources = find_recordings(terrains)
    assert ids(sources) == ["ICE/pro_00", "ICE/pro_01", "SNOW/day 1/pro_00", "SNOW/pro_02"]
    assert [source.label for source in sources] == ["ICE", "ICE", "SNOW", "SNOW"]
    assert [source.group for source in sources] == ids(sources)
    assert sources[2].paths == (terrains / "SNOW" / "day 1" / "pro_00.csv.gz",)
    assert sources[2].relative_paths == ("SNOW/day 1/pro_00.csv.gz",)


def test_patterns_choose_by_name_or_by_path(terrains):
    by_name = find_recordings(terrains, ReadOptions(files="pro_0[01].*"))
    assert ids(by_name) == ["ICE/pro_00", "ICE/pro_01", "SNOW/day 1/pro_00"]
    by_path = find_recordings(terrains, ReadOptions(files=["SNOW/day 1/*"], labels=["SNOW"]))
    assert ids(by_path) == ["SNOW/day 1/pro_00"]


def test_labels_keep_and_exclusions_leave_out_classes_and_recordings(terrains):
    assert ids(find_recordings(terrains, ReadOptions(labels=["ICE"]))) == [
        "ICE/pro_00",
        "ICE/pro_01",
    ]
    assert ids(find_recordings(terrains, ReadOptions(exclude=["SNOW"]))) == [
        "ICE/pro_00",
        "ICE/pro_01",
    ]
    assert ids(find_recordings(terrains, ReadOptions(exclude=["SNOW", "ICE/*1"]))) == ["ICE/pro_00"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"files": "imu_*.csv"}, "files='imu_\\*.csv' matches none of the"),
        ({"labels": ["ise"]}, "labels='ise' is not a class .* Known: ICE, SNOW"),
        ({"exclude": ["MUD"]}, "exclude='MUD' matches no class or recording"),
        ({"pair": "{sensor}.csv"}, "must contain {recording} once"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(terrains, arguments, said):
    with pytest.raises(ArgumentError, match=said):
        find_recordings(terrains, ReadOptions(**arguments))


def test_an_empty_class_is_named_with_a_remedy(terrains):
    (terrains / "GRAVEL").mkdir()
    with pytest.raises(RecordingError, match=r"class 'GRAVEL' has no file .* exclude='GRAVEL'"):
        find_recordings(terrains)
    assert len(find_recordings(terrains, ReadOptions(exclude=["GRAVEL"]))) == 4
    assert len(find_recordings(terrains, ReadOptions(labels=["ICE"]))) == 2


def test_a_recording_outside_the_class_folders_is_not_silently_left_out(terrains):
    touch(terrains, "stray.csv")
    with pytest.raises(RecordingError, match=r"stray\.csv: .* class folder.* exclude='stray'"):
        find_recordings(terrains)
    assert len(find_recordings(terrains, ReadOptions(exclude=["stray"]))) == 4


def test_a_folder_of_files_alone_and_a_single_file_have_no_labels(tmp_path):
    touch(tmp_path, "b.csv", "a.h5")
    sources = find_recordings(tmp_path)
    assert [(s.recording_id, s.label) for s in sources] == [("a", None), ("b", None)]
    (single,) = find_recordings(tmp_path / "b.csv")
    assert (single.recording_id, single.label, single.group) == ("b", None, "b")


@pytest.mark.parametrize("name", ["nowhere", "notes.md"])
def test_a_path_without_recordings_is_an_error_that_names_it(tmp_path, name):
    touch(tmp_path, "notes.md")
    with pytest.raises(RecordingError, match=name):
        find_recordings(tmp_path / name)


TABLE = "time,a\n" + "".join(f"{i / 20},{i % 7}\n" for i in range(60))
NOTES = "Notes on the drive,\nof 2026-03-01\n"
LOG = "2026-03-01 10:00:00,123 INFO start\n2026-03-01 10:00:01,456 INFO stop\n"


@pytest.mark.parametrize("kind", ["csv", "dat"])
def test_a_text_file_is_a_recording_only_if_it_is_a_table_apart_from_other_kinds(tmp_path, kind):
    contents = {f"ICE/a.{kind}": TABLE, "SNOW/b.txt": TABLE}
    contents |= {"ICE/notes.txt": NOTES, "run.log": LOG, "loss.txt": TABLE}
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if kind == "dat":  # there is no other kind, so each text file counts
        with (
            pytest.warns(UserWarning, match=r"left out run\.log, ICE/notes\.txt, because"),
            pytest.raises(RecordingError, match="exclude='loss'"),
        ):
            find_recordings(tmp_path)
        with pytest.warns(UserWarning, match="left out"):
            found = find_recordings(tmp_path, ReadOptions(exclude="loss"))
    else:
        with pytest.warns(UserWarning, match=r"left out loss\.txt, because") as caught:
            found = find_recordings(tmp_path)
        assert len(caught) == 1
    assert [(one.recording_id, one.label) for one in found] == [
        ("ICE/a", "ICE"),
        ("SNOW/b", "SNOW"),
    ]
    assert len(find_recordings(tmp_path, ReadOptions(files=["a.*", "b.*"]))) == 2


def test_a_text_file_that_is_not_a_table_is_one_error(tmp_path):
    for text, said in ((NOTES, "is not a table: none"), (LOG, "is not a table: none")):
        (tmp_path / "a.log").write_text(text)
        with pytest.raises(RecordingError, match=said):
            read_recordings(tmp_path / "a.log")
    (tmp_path / "a.dat").write_bytes(np.linspace(0.1, 9, 99).astype("<f4").tobytes() + bytes(9))
    with pytest.raises(RecordingError, match="is not a table of text, but binary data; leave"):
        read_recordings(tmp_path / "a.dat")


@pytest.mark.parametrize(("kind", "own"), [("csv", ".txt"), ("txt", ".lab.txt")])
def test_label_tables_of_recordings_are_not_recordings(tmp_path, kind, own):
    (tmp_path / f"a.{kind}").write_text(TABLE)
    (tmp_path / f"a{own}").write_text("0.0\t1.0\tICE\n1.0\t2.0\tSNOW\n")
    (one,) = find_recordings(tmp_path, ReadOptions(manifest="{recording}" + own))
    assert [span.label for span in one.label_spans] == ["ICE", "SNOW"]


def test_notes_are_not_a_sensor_of_a_listed_recording(tmp_path):
    for name in ("imu_0.csv", "pro_0.csv", "loss_0.txt"):
        (tmp_path / name).write_text(TABLE)
    (tmp_path / "manifest.csv").write_text("path,label\nimu_0.csv,ice\n")
    (one,) = find_recordings(tmp_path, ReadOptions(pair="{sensor}_{recording}.*"))
    assert one.sensors == ("imu", "pro")


PAIR = {"pair": "{sensor}_{recording}.*"}


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ([], {}, r"contains no file that can be read .*\.parquet"),
        (["ICE/a.csv", "ICE/a.parquet"], {}, r"a\.csv and .*a\.parquet: both .* 'ICE/a'"),
        (["ICE/p_1.csv", "ICE/p_1.parquet"], PAIR, r"p_1\.csv and .*p_1\.parquet: pair="),
        (["ICE/p-1.csv"], PAIR, r"p-1\.csv: does not match pair"),
    ],
)
def test_files_that_are_not_recordings_of_their_own_are_named(tmp_path, names, options, said):
    touch(tmp_path, *names)
    with pytest.raises(RecordingError, match=said):
        find_recordings(tmp_path, ReadOptions(**options))


class TestManifest:
    def manifest(self, folder, text, name="manifest.csv"):
        touch(folder, "x/a.csv", "x/b.csv.gz")
        (folder / name).write_text(text, encoding="utf-8")
        return folder

    def test_its_labels_and_groups_are_used_in_its_order(self, tmp_path):
        text = "path,label,group\nx/b.csv.gz,Eis,robot 1\nx/a.csv,snow,\n"
        folder = self.manifest(tmp_path, text)
        for path, arguments in (
            (folder, {}),
            (folder / "manifest.csv", {}),
            (folder, {"manifest": "manifest.csv"}),
        ):
            sources = find_recordings(path, ReadOptions(**arguments))
            assert [(s.recording_id, s.label, s.group) for s in sources] == [
                ("x/b", "Eis", "robot 1"),
                ("x/a", "snow", "x/a"),
            ]
        assert ids(find_recordings(folder, ReadOptions(labels=["snow"]))) == ["x/a"]
        assert ids(find_recordings(folder, ReadOptions(files="*.gz"))) == ["x/b"]

    def test_it_can_be_read_as_an_ordinary_file(self, tmp_path):
        folder = self.manifest(tmp_path, "path,label\nx/a.csv,snow\n")
        sources = find_recordings(folder, ReadOptions(manifest=False, exclude=["manifest"]))
        assert [source.label for source in sources] == ["x", "x"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("path,label\nx/a.csv,s\nx/c.csv,s\n", r"manifest\.csv, row 2: .*c\.csv does not"),
            (f"path,label\n{'9' * 300}.csv,s\n", "row 1: the file .* does not exist"),
            ("path,label\nx/a.csv,s\nx/b.csv.gz,\n", r"row 2: 'x/b\.csv\.gz' has no label"),
            ("path,label\nx/a.csv,s\nx/a.csv,t\n", "row 2: 'x/a.csv' is already listed in row 1"),
            ("path,lable\nx/a.csv,s\n", "column 'lable' is not known; did you mean 'label'"),
            ("file,label\nx/a.csv,s\n", "needs a column 'path'"),
            ("path,label\n", "has a header but lists no recordings"),
            ("path,label\nREADME.md,s\n", "row 1: the file .* does not exist|row 1: cannot read"),
        ],
    )
    def test_errors_in_it_are_named_with_the_row(self, tmp_path, text, said):
        with pytest.raises(RecordingError, match=said):
            find_recordings(self.manifest(tmp_path, text))


class TestPair:
    files = ("pro_*.csv", "imu_*.csv.gz")
    pair = "{sensor}_{recording}.*"

    def test_sensors_of_one_recording_are_found_in_the_order_of_the_patterns(self, tmp_path):
        touch(tmp_path, "ICE/pro_01.csv", "ICE/imu_01.csv.gz", "ICE/pro_1.5.csv")
        touch(tmp_path, "ICE/imu_1.5.csv.gz", "SNOW/imu_01.csv.gz", "SNOW/pro_01.csv")
        sources = find_recordings(tmp_path, ReadOptions(files=self.files, pair=self.pair))
        assert ids(sources) == ["ICE/01", "ICE/1.5", "SNOW/01"]
        assert {source.sensors for source in sources} == {("pro", "imu")}
        snow = tmp_path / "SNOW"
        assert sources[2].paths == (snow / "pro_01.csv", snow / "imu_01.csv.gz")
        assert not any(source.missing_sensors for source in sources)

    def test_a_sensor_that_other_recordings_have_is_listed_as_missing(self, tmp_path):
        touch(tmp_path, "ICE/pro_01.csv", "ICE/imu_01.csv.gz", "ICE/pro_02.csv")
        one, two = find_recordings(tmp_path, ReadOptions(files=self.files, pair=self.pair))
        assert (one.missing_sensors, two.missing_sensors) == ((), ("imu",))

    def test_a_manifest_must_give_each_recording_a_single_label(self, tmp_path):
        touch(tmp_path, "pro_1.csv", "imu_1.csv")
        (tmp_path / "manifest.csv").write_text("path,label\npro_1.csv,ice\nimu_1.csv,snow\n")
        with pytest.raises(RecordingError, match="labels 'ice' and 'snow'"):
            find_recordings(tmp_path, ReadOptions(pair=self.pair))


def manifest_of(folder, *lines):
    touch(folder, "run_1.csv", "run_2.csv")
    for name in ("run_1.csv", "run_2.csv"):
        (folder / name).write_text("time,a\n" + "".join(f"{t},{t}\n" for t in range(10)))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_rows_of_a_manifest_may_label_parts_of_one_recording(tmp_path):
    folder = manifest_of(
        tmp_path,
        "path,start_s,end_s,label,group",
        "run_1.csv,4,7.5,mud,robot",
        "run_2.csv,,,ice,",
        "run_1.csv,0,4,ice,robot",
    )
    one, two = find_recordings(folder)
    assert one.label is None
    assert one.label_spans == (LabelSpan(0, 4, "ice"), LabelSpan(4, 7.5, "mud"))
    assert (one.labels, one.group, one.recording_id) == (("ice", "mud"), "robot", "run_1")
    assert (two.label, two.label_spans) == ("ice", ())
    read, whole = read_recordings(folder)
    assert read.label_spans == one.label_spans
    assert whole.label == "ice"


def test_chosen_and_excluded_classes_also_apply_to_parts(tmp_path):
    folder = manifest_of(
        tmp_path,
        "path,start_s,end_s,label",
        "run_1.csv,0,4,ice",
        "run_1.csv,4,7,mud",
        "run_2.csv,1,4,mud",
    )
    for choice in ({"labels": ["ice"]}, {"exclude": ["mud"]}):
        (only,) = find_recordings(folder, ReadOptions(**choice))
        assert only.label_spans == (LabelSpan(0, 4, "ice"),)
    with pytest.raises(ArgumentError, match=r"labels='ise'.* Known: ice, mud"):
        find_recordings(folder, ReadOptions(labels=["ise"]))
    with pytest.raises(ArgumentError, match="Did you mean 'mud'"):
        find_recordings(folder, ReadOptions(exclude=["mod"]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["run_1.csv,0,4,ice", "run_1.csv,3,5,mud"], r"row 2: 'mud' from 3.* overlaps.* in row 1"),
        (["run_1.csv,0,,ice"], r"row 1: no end_s"),
        (["run_1.csv,,4,ice"], r"row 1: no start_s"),
        (["run_1.csv,4,4,ice"], r"row 1: .*the end is not after the start"),
        (["run_2.csv,0,1,ice", "run_1.csv,4,2,ice"], r"row 2: .*the end is not after the start"),
        (["run_1.csv,nan,4,ice"], r"row 1: .*finite"),
        (["run_1.csv,zero,4,ice"], r"row 1: start_s 'zero' is not a number"),
        (["run_1.csv,0,4,"], r"row 1: .*has no label"),
        (["run_1.csv,0,4,ice", "run_1.csv,,,mud"], r"row 2: .* in row 1.*need start_s"),
        (["run_1.csv,,,ice", "run_1.csv,0,4,mud"], r"row 2: .* in row 1.*need start_s"),
        (
            ["path,start_s,end_s,label,group", "run_1.csv,0,4,ice,a", "run_1.csv,4,5,mud,b"],
            r"row 2: group is 'b'.*row 1 has 'a'",
        ),
        (["path,start_s,label", "run_1.csv,0,ice"], "'start_s' but no 'end_s'"),
        (["path,start_s,end_s", "run_1.csv,0,4"], "no 'label'"),
    ],
)
def test_invalid_rows_are_named(tmp_path, rows, said):
    head = [] if rows[0].startswith("path") else ["path,start_s,end_s,label"]
    folder = manifest_of(tmp_path, *head, *rows)
    with pytest.raises(RecordingError, match=rf"manifest\.csv.* {said}"):
        find_recordings(folder)


def test_a_part_outside_the_recording_is_an_error_when_it_is_read(tmp_path):
    folder = manifest_of(tmp_path, "path,start_s,end_s,label", "run_1.csv,20,24,ice")
    with pytest.raises(RecordingError, match=r"run_1\.csv: .*label span.*0\.0+ s to 9\.0+ s"):
        read_recordings(folder)


def test_sensors_of_one_recording_must_have_the_same_parts(tmp_path):
    folder = touch(tmp_path / "a", "pro_1.csv", "imu_1.csv")
    head = "path,start_s,end_s,label\n"
    (folder / "manifest.csv").write_text(head + "pro_1.csv,0,4,ice\nimu_1.csv,0,4,ice\n")
    (one,) = find_recordings(folder, ReadOptions(pair="{sensor}_{recording}.*"))
    assert one.label_spans == (LabelSpan(0, 4, "ice"),)
    (folder / "manifest.csv").write_text(head + "pro_1.csv,0,4,ice\nimu_1.csv,0,5,ice\n")
    with pytest.raises(RecordingError, match="their label spans differ"):
        find_recordings(folder, ReadOptions(pair="{sensor}_{recording}.*"))


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        ("{sensor}_{recording}.csv", ["acc_run1.csv", "gyro_run1.csv"]),
        ("{recording}-{sensor}.*", ["a/run1-acc.csv", "a/run1-gyro.parquet"]),
        ("{recording}/{sensor}.csv", ["a/run1/acc.csv", "a/run1/gyro.csv"]),
        ("{sensor}/{recording}.csv", ["acc/run1.csv", "gyro/run1.csv"]),
    ],
)
def test_a_manifest_that_lists_one_sensor_is_completed_by_pair(tmp_path, pair, names):
    others = [name.replace("run1", "run2") for name in names]
    touch(tmp_path, *names, *others, *(name.replace("run1", "run3") for name in names))
    rows = [(a, b, f, x) for f in (names[0], others[0]) for a, b, x in ((0, 1, "w"), (1, 2, "t"))]
    lines = ["path,start_s,end_s,label", *(f"{f},{a},{b},{x}" for a, b, f, x in rows)]
    (tmp_path / "labels_run1.csv").write_text("\n".join(lines))
    sources = find_recordings(tmp_path, ReadOptions(pair=pair, manifest="labels_run1.csv"))
    assert [source.relative_paths for source in sources] == [tuple(names), tuple(others)]
    assert [source.sensors for source in sources] == [("acc", "gyro")] * 2
    assert [source.labels for source in sources] == [("w", "t")] * 2


def test_sensors_that_a_manifest_omits_stay_omitted_if_it_lists_several(tmp_path):
    names = [f"{sensor}_run{i}.csv" for i in (1, 2) for sensor in ("acc", "gyro", "mag")]
    touch(tmp_path, *names)
    listed = ["acc_run1.csv,w", "gyro_run1.csv,w", "acc_run2.csv,w"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label", *listed]))
    for source in find_recordings(tmp_path, ReadOptions(pair="{sensor}_{recording}.csv")):
        assert source.sensors == ("acc", "gyro")


def test_pair_that_joins_none_of_the_files_in_a_manifest_is_refused(tmp_path):
    touch(tmp_path, "acc_run1.csv", "acc_run2.csv", "gyro_run3.csv")
    (tmp_path / "manifest.csv").write_text("path,label\nacc_run1.csv,w\nacc_run2.csv,t\n")
    with pytest.raises(RecordingError, match=r"joins nothing, .* of sensor 'acc'"):
        find_recordings(tmp_path, ReadOptions(pair="{sensor}_{recording}.csv"))


def test_a_url_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ArgumentError, match="aws s3 sync"):
        find_recordings("s3://fleet/logs")
    write_recordings(tmp_path / "logs", n_samples=40)
    with pytest.raises(ArgumentError, match=r"s3://fleet/w\.h5: is a URL"):
        prepare(tmp_path / "logs", "s3://fleet/w.h5", window_s=1)
