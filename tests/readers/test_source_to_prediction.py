"""Logs that other programs write can be used from their folder to a prediction."""

import pytest
from commands import succeed
from lerobot_datasets import TASKS, episode, write_dataset
from ulogs import flight


def drive(path, **how):
    pytest.importorskip("mdfs", reason="asammdf is not installed").drive(path, **how)


def files(write, suffix):
    def written(root):
        for label, amplitude in (("calm", 0.2), ("rough", 3.0)):
            (root / label).mkdir(parents=True)
            for seed in range(5):
                write(root / label / f"{seed}{suffix}", seed=seed, amplitude=amplitude)
        return root / "rough" / f"1{suffix}"

    return written


def dataset(version):
    return lambda root: write_dataset(root, version, [episode(i, 120) for i in range(10)])


KINDS = {  # how the logs are written, their channels, and words that `inspect` or `predict` says
    "mdf": (files(drive, ".mf4"), "CAN1.motor.current,Wheel[0].speed", ["Wheel[1]"]),
    "ulog": (files(flight, ".ulg"), "sensor_accel_0.x,battery_status_0.current_a", ["accel_0"]),
    "lerobot 2": (dataset("v2.1"), None, ["episode_000003", TASKS[1]]),
    "lerobot 3": (dataset("v3.0"), None, ["episode_000003", TASKS[1]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_logs_can_be_used_from_their_folder_to_a_prediction(tmp_path, kind):
    write, channels, words = KINDS[kind]
    logs, windows, model = tmp_path / "logs", tmp_path / "w.h5", tmp_path / "m.safetensors"
    log = write(logs)
    chosen = ("--channels", channels) if channels else ()
    cut = (*chosen, "--window-s", 0.5, "--hop-s", 0.25, "-o")
    fast = ("--set", "max_epochs=1", "--set", "features=None", "--set", "refit=None")
    shown = succeed("inspect", logs)
    succeed("prepare", logs, *cut, windows)
    succeed("train", windows, "-o", model, *fast)
    shown += succeed("predict", model, log)
    assert all(word in shown for word in words)
    if channels:
        succeed("prepare", logs, "--native-rates", *cut, tmp_path / "native.h5")
