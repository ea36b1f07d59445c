"""Damaged prepared files: `python benchmarks/harden/mutate_prepared.py [COUNT] [--seed 0]`.

Each of COUNT copies of a prepared file gets random damage and is read in another process. It must
be refused with a `PreparedFileError` within 10 s and 4 GB: no crash, no hang, no other exception,
and no windows from a file of which a byte changed. The last line is a summary as JSON; the exit
code is 1 if anything went wrong. A file that crashed or hung is kept in build/harden/prepared.
"""

import argparse
import json
import resource
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sensorseq.errors import PreparedFileError  # noqa: E402
from sensorseq.io import checksums  # noqa: E402
from sensorseq.io.prepared import PreparedFile, write_windows  # noqa: E402
from sensorseq.windows import PARTS, WindowSet  # noqa: E402

MOST_S, MOST_BYTES, START_S = 10, 4 << 30, 120
KINDS = ("bit", "byte", "field", "run", "fill", "cut", "insert", "remove", "move", "append")
KEPT = ROOT / "build" / "harden" / "prepared"


def write_seeds(folder):
    """Write good files of different sizes and contents; return their names."""
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


def mutate(rng, content, kind):
    """Return the content with one to three pieces of damage of one kind."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data)))
        if rng.random() < 0.3:  # what HDF5 and the checksums need most is at the ends
            at = int(rng.integers(min(len(data), 2048)))
            at = len(data) - 1 - at if rng.random() < 0.3 else at
        size = min(int(rng.choice([1, 2, 4, 8, 64, 4096, 70_000])), len(data) - at)
        other = int(rng.integers(len(data) - size + 1))
        if kind == "bit":
            data[at] ^= 1 << rng.integers(8)
        elif kind == "byte":
            data[at] = rng.integers(256)
        elif kind == "field":
            numbers = (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data), at)
            number = numbers[rng.integers(len(numbers))]
            data[at : at + 8] = number.to_bytes(8, "little")[: len(data) - at]
        elif kind == "run":
            data[at : at + size] = rng.bytes(size)
        elif kind == "fill":
            data[at : at + size] = bytes([rng.choice([0, 255])]) * size
        elif kind == "cut":
            del data[max(1, at) :]
        elif kind == "insert":
            data[at:at] = rng.bytes(size)
        elif kind == "remove" and size < len(data):
            del data[at : at + size]
        elif kind == "move":
            data[at : at + size] = data[other : other + size]
        elif kind == "append":
            data += rng.bytes(size)
    return bytes(data)


def outcome(path, part):
    """Return what reading the file gives: "refused", "loaded", or the exception."""
    try:
        with PreparedFile(path) as file:
            file.record()
            _ = file.windows() if part is None else file.part(part)
    except PreparedFileError as error:
        return "refused" if str(error).startswith(f"{path}: ") else f"without its name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def work(folder, seed, first, count, large):
    """Read damaged files and print the outcome of each; called in another process."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    if large:
        checksums.WHOLE_BYTES = 0  # as of a large file: pieces are verified when they are read
    seeds = [path.read_bytes() for path in write_seeds(folder)]
    path = folder / "damaged.h5"
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        content = seeds[int(rng.choice(len(seeds), p=[0.4, 0.3, 0.25, 0.05]))]
        kind = str(rng.choice(KINDS))
        changed = mutate(rng, content, kind)
        if changed == content:
            print(json.dumps([number, kind, "same"]), flush=True)
            continue
        path.write_bytes(changed)
        started = time.perf_counter()
        found = outcome(path, None)
        if large and found == "loaded":
            found = "unread"  # the change is where nothing was read: checked next
            with PreparedFile(path) as file:
                try:
                    file.verify()
                    found = "loaded"
                except PreparedFileError:
                    pass
        took = time.perf_counter() - started
        print(json.dumps([number, kind, "slow" if took > MOST_S + 2 else found]), flush=True)


def run(count, seed, *, large=False):
    """Return how many damaged files had each outcome, and those that were not refused."""
    counts, bad, done = {}, [], 0
    started, peak = time.perf_counter(), 0
    while done < count:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--worker", folder, str(done), str(count - done)]
            command += ["--seed", str(seed), *(["--large"] if large else [])]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            patience = START_S
            while done < count:
                ready, _, _ = select.select([process.stdout], [], [], patience)
                line = process.stdout.readline() if ready else ""
                if not line:
                    break
                patience = MOST_S + 5
                number, kind, found = json.loads(line)
                note(counts, bad, number, kind, found)
                done = number + 1
            else:
                process.wait()
            if done < count:  # it crashed or hung on this one
                hung = process.poll() is None and not ready
                process.kill()
                found = "hang" if hung else f"crash {process.wait()}"
                note(counts, bad, done, "?", found)
                KEPT.mkdir(parents=True, exist_ok=True)
                (KEPT / f"{seed}-{done}.h5").write_bytes(Path(folder, "damaged.h5").read_bytes())
                done += 1
            process.stdout.close()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "parser": "prepared" + (" (large)" if large else ""),
        "mutations": count,
        "seed": seed,
        "outcomes": dict(sorted(counts.items())),
        "bad": bad,
        "peak_bytes": peak,
        "seconds": round(time.perf_counter() - started, 1),
    }


def note(counts, bad, number, kind, found):
    """Count an outcome; what is not a refusal is listed."""
    word = found.split(":")[0]
    counts[word] = counts.get(word, 0) + 1
    if found not in ("refused", "same", "unread"):
        bad.append([number, kind, found])


def main():
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", action="store_true", help="verify pieces when they are read")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        folder, first, count = given.worker
        work(Path(folder), given.seed, int(first), int(count), given.large)
        return 0
    summary = run(given.count, given.seed, large=given.large)
    print(json.dumps(summary))
    return int(bool(summary["bad"]))


if __name__ == "__main__":
    sys.exit(main())
