"""Writes ULog files according to the format's description."""

import struct

import numpy as np

START_US = 123_456_789
_TYPES = {
    "float": "<f4",
    "double": "<f8",
    "int32_t": "<i4",
    "uint8_t": "u1",
    "bool": "?",
    "char": "u1",
}


def message(kind, content):
    return struct.pack("<HB", len(content), ord(kind)) + content


def write_ulog(path, topics, *, start_us=START_US):
    """Write topics: {(name, instance): (times in us since the start, {field: (type, values)})}."""
    head = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", start_us) + message("B", bytes(40))
    formats, subscriptions, data = {}, b"", []
    for number, ((name, instance), (times_us, fields)) in enumerate(topics.items()):
        described, columns = ["uint64_t timestamp"], []
        for field, (kind, values) in fields.items():
            values = np.asarray(values, _TYPES[kind])
            size = "" if values.ndim == 1 else f"[{values.shape[1]}]"
            described.append(f"{kind}{size} {field}")
            columns.append(values)
        formats[name] = message("F", f"{name}:{';'.join(described)};".encode())
        subscriptions += message("A", struct.pack("<BH", instance, number) + name.encode())
        for row, time_us in enumerate(np.asarray(times_us).tolist()):
            content = struct.pack("<HQ", number, start_us + time_us)
            content += b"".join(values[row].tobytes() for values in columns)
            data.append((time_us, message("D", content)))
    data.sort(key=lambda entry: entry[0])
    body = b"".join(content for _, content in data)
    path.write_bytes(head + b"".join(formats.values()) + subscriptions + body)
    return path


def flight(path, *, seed=0, seconds=6.0, amplitude=1.0, mode=4):
    """Write a flight: two accelerometers (200 Hz), the battery current (20 Hz) and the mode."""
    rng = np.random.default_rng(seed)
    fast = np.arange(0, seconds * 1e6, 5000).astype(np.int64)
    slow = np.arange(0, seconds * 1e6, 50_000).astype(np.int64)
    swing = amplitude * np.sin(2 * np.pi * 3 * fast / 1e6)
    return write_ulog(
        path,
        {
            ("sensor_accel", 0): (fast, {"x": ("float", swing + 0.1 * rng.normal(size=len(fast)))}),
            ("sensor_accel", 1): (fast, {"x": ("float", swing)}),
            ("battery_status", 0): (
                slow,
                {
                    "current_a": ("float", 5 + amplitude + rng.normal(size=len(slow))),
                    "voltage_cell_v": ("float", rng.normal(4, 0.1, size=(len(slow), 4))),
                    "is_powering_off": ("bool", np.zeros(len(slow))),
                    "noise": ("uint8_t", rng.integers(0, 9, size=(len(slow), 80))),
                },
            ),
            ("vehicle_status", 0): ([0, int(seconds * 5e5)], {"nav_state": ("uint8_t", [2, mode])}),
        },
    )
