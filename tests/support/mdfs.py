"""Writes MDF files with asammdf."""

import struct
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


def marked(path, n=40):
    """Write a group with marked invalid values, and a group of words of different lengths."""
    t = np.arange(n) / 50
    file = MDF(version="4.10")
    marks = np.arange(n) % 7 == 3
    values = (Signal(np.sin(t), t, name="x", invalidation_bits=marks),)
    file.append([*values, Signal(np.arange(n, dtype="u1"), t, name="k")], acq_name="Marked")
    words = np.array([b"ice" if i < n // 2 else b"deep snow" for i in range(n)])
    file.append([Signal(words, t, name="word", encoding="utf-8")], acq_name="Words")
    path = file.save(path, overwrite=True)
    file.close()
    return Path(path)


def unsorted(path, n=40):
    """Write a group whose records begin with an identifier, as loggers write them."""
    t = np.arange(n) / 50
    file = MDF(version="4.10")
    file.append([Signal(np.sin(t), t, name="x"), Signal(np.cos(t), t, name="y")])
    path = Path(file.save(path, overwrite=True))
    group = file.groups[0]
    place, header, records = group.data_group.address, group.channel_group.address, 24
    file.close()
    content = bytearray(path.read_bytes())
    (data,) = struct.unpack_from("<Q", content, place + 40)
    rows = np.frombuffer(content[data + 24 :][: records * n], np.uint8).reshape(n, records)
    rows = np.insert(rows, 0, 7, axis=1).tobytes()
    struct.pack_into("<Q", content, place + 40, len(content))
    content[place + 56] = 1  # number of bytes of an identifier
    struct.pack_into("<Q", content, header + 72, 7)  # the identifier
    path.write_bytes(content + struct.pack("<4s4xQQ", b"##DT", 24 + len(rows), 0) + rows)
    return path
