"""Writes LeRobot datasets of versions 2.1 and 3.0 according to the format's description."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 40
JOINTS = ("hip.pos", "knee.pos", "ankle.pos")
TASKS = ("lift the box", "press the pedal")


def episode(number, n_frames, tasks=None, seed=0, fps=FPS):
    """Return the columns of an episode; its joints swing at a rate that depends on the task."""
    rng = np.random.default_rng([seed, number])
    t = np.arange(n_frames) / fps
    task = np.full(n_frames, number % 2) if tasks is None else np.asarray(tasks)
    state = np.sin(2 * np.pi * (1 + 3 * task)[:, None] * t[:, None] + np.arange(3))
    state = (state + 0.1 * rng.normal(size=(n_frames, 3))).astype(np.float32)
    return {
        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 3),
        "action": pa.array((2 * state[:, :2]).tolist(), pa.list_(pa.float32())),
        "observation.images.wrist": pa.array([{"bytes": b"png", "path": None}] * n_frames),
        "timestamp": t.astype(np.float32),
        "frame_index": np.arange(n_frames),
        "episode_index": np.full(n_frames, number),
        "index": 10_000 * number + np.arange(n_frames),
        "task_index": task,
        "next.done": np.arange(n_frames) == n_frames - 1,
    }


def write_dataset(root, version, episodes, *, per_file=4, tasks=TASKS, **facts):
    """Write a dataset; version 3 has `per_file` episodes in each file."""
    (root / "meta").mkdir(parents=True)
    scalar = {"dtype": "float32", "shape": [1], "names": None}
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": [*JOINTS]}},
        "action": {"dtype": "float32", "shape": [2], "names": ["dim"]},
        "observation.images.front": {"dtype": "video", "shape": [8, 8, 3], "names": None},
        "observation.images.wrist": {"dtype": "image", "shape": [8, 8, 3], "names": None},
        **dict.fromkeys(list(episodes[0])[3:], scalar),
    }
    info = {
        "codebase_version": version,
        "robot_type": "walker",
        "total_episodes": len(episodes),
        "fps": FPS,
        "features": features,
        **facts,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info), "utf-8")
    folder = root / "data" / "chunk-000"
    folder.mkdir(parents=True)
    if version < "v3":
        lines = [json.dumps({"task_index": i, "task": text}) for i, text in enumerate(tasks)]
        (root / "meta" / "tasks.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        for number, columns in enumerate(episodes):
            pq.write_table(pa.table(columns), folder / f"episode_{number:06d}.parquet")
        return root
    # as pandas writes a table with an unnamed index
    table = {"task_index": range(len(tasks)), "__index_level_0__": list(tasks)}
    pq.write_table(pa.table(table), root / "meta" / "tasks.parquet")
    for first in range(0, len(episodes), per_file):
        tables = [pa.table(columns) for columns in episodes[first : first + per_file]]
        pq.write_table(pa.concat_tables(tables), folder / f"file-{first // per_file:03d}.parquet")
    return root
