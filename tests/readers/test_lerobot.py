"""A LeRobot dataset is read without conversion: its episodes, names, tasks and rate."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_datasets import FPS, JOINTS, TASKS, episode, write_dataset

from sensorseq import read_recordings
from sensorseq.errors import RecordingError
from sensorseq.prepare.recording_part import input_key
from sensorseq.readers.find import find_recordings

VERSIONS = ["v2.1", "v3.0"]
STATE = [f"observation.state.{name}" for name in JOINTS]


def episodes(n=11):
    return [episode(number, 60 + number) for number in range(n)]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_episode_is_a_recording_with_its_task_and_the_names_of_its_joints(tmp_path, version):
    written = episodes()
    found = list(read_recordings(write_dataset(tmp_path / "set", version, written)))
    assert [one.recording_id for one in found] == [f"episode_{i:06d}" for i in range(11)]
    for number, (recording, columns) in enumerate(zip(found, written, strict=True)):
        assert recording.label == TASKS[number % 2]
        assert recording.group == recording.recording_id
        assert list(recording.channel_names) == [*STATE, "action[0]", "action[1]"]
        state = np.array(columns["observation.state"].to_pylist())
        np.testing.assert_array_equal(recording.values[:, :3], state)
        np.testing.assert_array_equal(recording.values[:, 3:], columns["action"].to_pylist())
        np.testing.assert_allclose(recording.timestamps_s, np.arange(60 + number) / FPS, atol=1e-6)
        pictures = [f"observation.images.{name}" for name in ("front", "wrist")]
        assert sorted(recording.attributes["dropped_columns"]) == pictures


@pytest.mark.parametrize("version", VERSIONS)
def test_an_episode_with_two_tasks_has_spans_and_another_column_may_label(tmp_path, version):
    two = episode(0, 80, tasks=[0] * 50 + [1] * 30)
    root = write_dataset(tmp_path / "set", version, [two, episode(1, 60)])
    first, second = read_recordings(root)
    assert [(s.label, round(s.start_s, 3)) for s in first.label_spans] == [
        (TASKS[0], 0.0),
        (TASKS[1], 50 / FPS),
    ]
    assert (first.label, second.label) == (None, TASKS[1])
    first, second = read_recordings(root, label_column="next.done")
    assert [span.label for span in first.label_spans] == ["0", "1"]
    assert "next.done" not in second.channel_names


def test_names_that_do_not_fit_are_replaced_by_positions(tmp_path):
    features = {
        "observation.state": {
            "dtype": "float32",
            "shape": [3],
            "names": {"motors": ["a", "b", "b"]},
        },
        "action": {"dtype": "float32", "shape": [2], "names": [["left", "right"]]},
    }
    root = write_dataset(tmp_path / "set", "v3.0", episodes(2), features=features)
    (first, _) = read_recordings(root)
    places = [f"observation.state[{place}]" for place in range(3)]
    assert list(first.channel_names) == [*places, "action.left", "action.right"]


def damaged(root, change):
    info = root / "meta" / "info.json"
    if callable(change):
        change(root)
    else:
        info.write_text(json.dumps({**json.loads(info.read_text("utf-8")), **change}), "utf-8")
    return list(read_recordings(root))


def lose_a_file(root):
    sorted((root / "data").glob("*/*"))[1].unlink()


def leave_pointers(name):
    def change(root):
        for path in root.rglob(name):
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    return change


def empty_info(root):
    (root / "meta" / "info.json").write_bytes(b"")


def cut_info(root):
    info = root / "meta" / "info.json"
    info.write_bytes(info.read_bytes()[:-40])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose_a_file, r"lists 11 episodes, but \d+ file\(s\) .* contain .*; .* episode [14]\."),
        ({"total_episodes": 9}, "lists 9 episodes, .* contain 11; some are not listed"),
        ({"fps": 50}, "the timestamps of episode 0 have a rate of 40 Hz, but fps in .* is 50"),
        ({"codebase_version": "v9.0"}, "has version v9.0; only versions 2 and 3"),
        ({"fps": 0}, r"is not the info.json of a LeRobot dataset: fps is 0"),
        ({"total_episodes": 10**9}, "lists 1000000000 episodes, .* no file contains episode 11"),
        ({"total_episodes": -1}, "LeRobot dataset: total_episodes is -1"),
        ({"total_episodes": 11.5}, r"LeRobot dataset: total_episodes is 11\.5"),
        ({"total_episodes": "11"}, "LeRobot dataset: total_episodes is '11'"),
        ({"total_episodes": float("inf")}, "LeRobot dataset: total_episodes is inf"),
        ({"fps": float("nan")}, "LeRobot dataset: fps is nan"),
        ({"fps": float("inf")}, "LeRobot dataset: fps is inf"),
        ({"fps": 1e308}, r"but fps in .* is 1e\+308"),
        ({"features": {"action": None}}, "is not the info.json of a LeRobot dataset"),
        (leave_pointers("tasks.*"), r"meta/tasks\.\w+: is a Git LFS pointer .* `git lfs pull`"),
        (leave_pointers("*0.parquet"), r"0\.parquet: is a Git LFS pointer instead of the file"),
        (empty_info, r"info.json: is not the info.json of a LeRobot dataset: "),
        (cut_info, r"info.json: is not the info.json of a LeRobot dataset: "),
        (lambda root: [f.unlink() for f in (root / "meta").glob("tasks.*")], "tasks.parquet"),
    ],
)
def test_metadata_that_contradict_the_files_are_named(tmp_path, version, change, message):
    root = write_dataset(tmp_path / "set", version, episodes())
    with pytest.raises(RecordingError, match=message):
        damaged(root, change)


def test_an_episode_in_the_wrong_file_or_in_two_files_is_named(tmp_path):
    root = write_dataset(tmp_path / "set", "v2.1", episodes(4))
    folder = root / "data" / "chunk-000"
    pq.write_table(pa.table(episode(7, 60)), folder / "episode_000002.parquet")
    with pytest.raises(RecordingError, match=r"episode_000002.parquet: has rows of episode 7"):
        find_recordings(root)
    root = write_dataset(tmp_path / "other", "v3.0", episodes(4))
    pq.write_table(pa.table(episode(2, 60)), root / "data" / "chunk-000" / "file-001.parquet")
    with pytest.raises(RecordingError, match=r"file-001.parquet: contains rows of episode 2, and"):
        find_recordings(root)


def test_a_task_without_a_description_is_named(tmp_path):
    root = write_dataset(tmp_path / "set", "v3.0", episodes(4), tasks=TASKS[:1])
    with pytest.raises(RecordingError, match="task_index 1 is not among the 1 tasks"):
        find_recordings(root)


def test_a_dataset_among_other_folders_or_its_data_alone_is_not_read_as_classes(tmp_path):
    for name in ("d1", "d2"):
        root = write_dataset(tmp_path / "sets" / name, "v2.1", episodes(2))
    (tmp_path / "sets" / "other").mkdir()
    for folder in (tmp_path / "sets", root / "data"):
        with pytest.raises(RecordingError, match="is a LeRobot dataset; pass only this folder"):
            find_recordings(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_datasets_in_one_folder_are_read_with_their_own_tasks(tmp_path, version):
    for name, tasks in (("fold", TASKS), ("lift", TASKS[::-1])):
        write_dataset(tmp_path / name, version, episodes(2), tasks=tasks)
    found = list(read_recordings(tmp_path))
    assert [(one.recording_id, one.label) for one in found] == [
        (f"{name}/episode_{i:06d}", tasks[i])
        for name, tasks in (("fold", TASKS), ("lift", TASKS[::-1]))
        for i in range(2)
    ]
    for one in found:
        (alone,) = read_recordings(
            tmp_path / one.recording_id[:4], exclude=f"*{1 - int(one.recording_id[-1])}"
        )
        np.testing.assert_array_equal(one.values, alone.values)
        assert one.group == one.recording_id


def test_a_missing_stamp_or_column_is_named_and_other_names_are_other_inputs(tmp_path):
    written = episodes(2)
    root = write_dataset(tmp_path / "set", "v2.1", written)
    before = [input_key(source, []) for source in find_recordings(root)]
    info = root / "meta" / "info.json"
    info.write_text(info.read_text("utf-8").replace("hip.pos", "hip_position"), "utf-8")
    after = [input_key(source, []) for source in find_recordings(root)]
    assert not set(before) & set(after)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    stamps = pa.array([*written[1]["timestamp"][:-1], None])
    pq.write_table(pa.table({**written[1], "timestamp": stamps}), path)
    with pytest.raises(RecordingError, match="row 61: no timestamp"):
        list(read_recordings(root))
    pq.write_table(pa.table(written[1]).drop_columns(["timestamp"]), path)
    with pytest.raises(RecordingError, match="has no column 'timestamp'"):
        find_recordings(root)


def test_a_joint_without_any_number_is_left_out(tmp_path):
    one = episode(0, 60)
    state = np.array(one["observation.state"].to_pylist(), np.float32)
    state[:, 1] = np.nan
    one["observation.state"] = pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 3)
    (read,) = read_recordings(write_dataset(tmp_path / "set", "v3.0", [one]))
    assert STATE[1] not in read.channel_names
    assert STATE[1] in read.attributes["dropped_columns"]
