"""Checks the lines of live streams: `python benchmarks/harden/live_input.py [--seconds 60]`.

The program draws streams with headers, messages, fragments, commas at the ends of lines and missing
values, of one sensor and of two, and cuts their bytes at random. The samples must equal the drawn
ones, bit for bit. Then some bytes are changed: the blocks, the lines and the whole stream must give
the same samples, the same error and the same number of unreadable lines. The last line of the
output is a JSON summary.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
from live_lines import Lines, cut, draw_lines, read_parts  # noqa: E402
from mutations import mutate  # noqa: E402

from sensorseq.prediction.live import SampleParser, SensorParser  # noqa: E402


def read(parser, blocks):
    """Return the bytes of the samples by sensor, the error, and the number of unreadable lines."""
    parts, problem, n_unreadable = read_parts(parser, blocks)
    found = {}
    for part in parts:
        name, values, stamps = ("", *part) if len(part) == 2 else part
        found.setdefault(name, []).append((values, stamps))
    joined = {
        name: tuple(
            None if each[0] is None else np.concatenate(each).tobytes()
            for each in zip(*own, strict=True)
        )
        for name, own in found.items()
    }
    return joined, problem, n_unreadable


def expected(drawn: dict[str, Lines]):
    """Return the result of `read` for drawn streams."""
    samples = {
        name: (each.values.tobytes(), None if each.stamps is None else each.stamps.tobytes())
        for name, each in drawn.items()
    }
    return samples, "", sum(each.n_unreadable for each in drawn.values())


def check(seed):
    """Return what is wrong with the draw of a seed; "" if nothing is."""
    rng = np.random.default_rng(seed)
    names = ("",) if seed % 2 else ("imu", "motor")
    drawn = {name: draw_lines(rng, name=name) for name in names}
    lines = {name: each.data.splitlines(keepends=True) for name, each in drawn.items()}
    order = rng.permutation([name for name in names for _ in lines[name]])
    data = b"".join(lines[name].pop(0) for name in order)

    def parser():
        if names == ("",):
            return SampleParser("csv", drawn[""].channels, most=25)
        channels = {name: each.channels for name, each in drawn.items()}
        return SensorParser(channels, None, {"imu": 60, "motor": 3})

    for blocks in ([data], data.splitlines(keepends=True), cut(rng, data)):
        if read(parser(), blocks) != expected(drawn):
            return "the samples differ from the drawn ones"
    if names == ("",):  # one sensor's lines do not wait for another sensor's error
        changed = mutate(random.Random(seed), data)
        blocks = [changed], changed.splitlines(keepends=True), cut(rng, changed)
        results = [read(parser(), some) for some in blocks]
        if results != results[:1] * 3:
            return "changed lines give other samples in other blocks"
    return ""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=60)
    until = time.monotonic() + arguments.parse_args().seconds
    failures, seed = {}, 0
    while time.monotonic() < until:
        if problem := check(seed):
            failures.setdefault(problem, []).append(seed)
        seed += 1
    what = [f"{problem}: seeds {seeds[:5]}" for problem, seeds in failures.items()]
    print(json.dumps({"trials": seed, "failures": sum(map(len, failures.values())), "what": what}))


if __name__ == "__main__":
    main()
