"""Writes valid prepared files, and changes bytes of files or values in JSON texts."""

import copy
import json

import numpy as np

from sensorseq.io.prepared import write_windows
from sensorseq.windows import PARTS, WindowSet

TOKENS = (
    *(
        b"",
        b",",
        b";",
        b'"',
        b"'",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"=",
        b"[[",
    ),
    *(b"nan", b"-inf", b"1e400", b"-1", b"0", b"1e-320", b"99999999999999999999", b"true", b"null"),
    *(
        b"\xff\xff\xff\xff",
        b"\0\0\0\x80",
        b"\xff" * 8,
        b"\x7f" + b"\xff" * 7,
        b"{}",
        b"[]",
        b"\\u0000",
    ),
    "é\u202e".encode(),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**70), 0.5, 1e308, float("nan"), float("inf")),
    *("", "a", "\0", "\u202e", "NaN", "x" * 5000, [], {}, [None], [[]], {"": None}, [0] * 300),
)

NUMBERS = (0, 1, 2, 7, 63, 255, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63)


def write_prepared(folder):
    """Write prepared files of different sizes and contents; return their names."""
    paths = []
    for number, (n, t, c) in enumerate([(30, 7, 2), (2000, 20, 3), (1, 1, 1), (300, 250, 6)]):
        rng = np.random.default_rng(number)
        windows = WindowSet(
            rng.normal(size=(n, t, c)).astype(np.float32),
            lengths=rng.integers(0, t + 1, n),
            y=rng.choice(["Eis", "größer", "snow"], n) if number != 2 else None,
            groups=rng.choice(["robot 1", "robot 2"], n),
            recording_id=rng.choice(["ICE/pro_01", "路面"], n),
            start_s=rng.uniform(0, 100, n),
            split=rng.choice(PARTS, n) if number != 3 else None,
            channels=tuple(f"Strom {i}" for i in range(c)),
            sample_rate_hz=6.5,
            provenance={"configuration": {"window": {"window_s": 5.0}}, "dropped": [None, "ü"]},
        )
        scaler = {"kind": np.frombuffer(b"standard", np.uint8), "center": np.arange(c) / 3}
        paths.append(folder / f"seed{number}.h5")
        write_windows(paths[-1], windows, scaler=scaler, sample_indices=np.arange(n // 2))
    return paths


def mutate(rng, data, donors=(), *, most=4):
    """Return the bytes with 1 to `most` changes drawn by `rng` (a `random.Random`)."""
    data = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.2:  # binary formats mostly store their structure at both ends
            at = (
                min(at, rng.randrange(2048))
                if rng.random() < 0.7
                else max(0, len(data) - at % 2048)
            )
        n = min(rng.choice((1, 1, 2, 4, 8, 32, 200, 4096)), len(data) - at)
        kind = rng.randrange(10)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            token = rng.choice(TOKENS)
            data[at : at + (len(token) if rng.random() < 0.7 else 0)] = token
        elif kind == 3:
            del data[at : at + n]
        elif kind == 4:
            data[at:at] = data[at : at + n] * rng.choice((1, 2, 50))
        elif kind == 5 and donors:
            other = rng.choice(donors)
            start = rng.randrange(len(other) + 1)
            data[at : at + n] = other[start : start + rng.choice((4, 16, 64))]
        elif kind == 6:
            data[at : at + n] = rng.randbytes(n)
        elif kind in (7, 8):  # a count, a size or a position, as binary formats store it
            size = rng.choice((1, 2, 4, 4, 8, 8))
            number = rng.choice((*NUMBERS, len(data), at, rng.randrange(len(data) + 1)))
            at -= at % size if rng.random() < 0.7 else 0
            mask = (1 << 8 * size) - 1
            data[at : at + size] = (number & mask).to_bytes(
                size, rng.choice(("little", "little", "big"))
            )
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def mutate_json(rng, text, *, most=3):
    """Return JSON text with 1 to `most` values replaced, removed, repeated or swapped."""
    root = [json.loads(text)]
    for _ in range(rng.randint(1, most)):
        holder, key = rng.choice(list(_places(root)))
        kind = rng.randrange(5)
        if kind <= 1:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 2:
            other, there = rng.choice(list(_places(root)))
            holder[key] = json.loads(json.dumps(other[there]))
        elif kind == 3 and holder is not root:
            del holder[key]
        elif isinstance(holder[key], int | float):
            holder[key] = holder[key] * rng.choice((-1, 0, 1000, 1e300))
        elif isinstance(holder[key], str):
            holder[key] = mutate(rng, holder[key].encode()).decode(errors="replace")
        elif isinstance(holder[key], list):
            holder[key] = holder[key] * 2
    return json.dumps(root[0]).encode()


def _places(holder):
    """Yield every (container, key) below a container."""
    for key in holder if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
