"""Writes MDF files with asammdf."""

from pathlib import Path

import numpy as np
from asammdf import MDF, Signal

KMH = {"a": 1 / 3.6, "b": 0.0}


def drive(path, *, seconds=12.0, hz=200.0, amplitude=1.0, version="4.10", seed=0, compression=0):
    """Write a bus's group at `hz`, two groups named alike at `hz` / 5, and a group of strings."""
    rng = np.random.default_rng(seed)
    fast, slow = (np.arange(int(seconds * rate)) / rate for rate in (hz, hz / 5))
    current = amplitude * np.sin(2 * np.pi * 7 * fast) + 0.1 * rng.normal(size=len(fast))
    counts = np.round(1000 * np.cos(slow)).astype(np.int16)
    mode = (slow * 2 // seconds).astype(np.uint8)
    names = {"val_0": 0, "val_1": 1, "text_0": b"idle", "text_1": b"pull", "default": b"?"}
    file = MDF(version=version)
    file.append([Signal(current, fast, unit="A", name="motor.current")], acq_name="CAN1")
    scaled = Signal(counts, slow + 0.001, unit="m/s", name="speed", conversion=KMH)
    file.append([scaled], acq_name="Wheel")
    file.append([Signal(counts[::-1].copy(), slow + 0.002, name="speed")], acq_name="Wheel")
    file.append([Signal(mode, slow, name="mode", conversion=names)], acq_name="State")
    file.append([Signal(np.empty(0), np.empty(0), name="never")], acq_name="Empty")
    path = file.save(path, overwrite=True, compression=compression)
    file.close()
    return Path(path), current, counts / 3.6
