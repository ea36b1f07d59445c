"""Compares the cost of the runtime for robots with the cost of the full toolkit.

    bench_runtime.py --python ENV/bin/python           # an environment with sensorseq-runtime
    bench_runtime.py --python ENV/bin/python --quick   # fewer repeats; nothing is written

Processes take turns. The rows measure the `import` of numpy, of the runtime and of the toolkit's
classifier; the time from the start of a process to the first line of a stream; the process's
resident memory at that time; one decision of a loaded model; and reading a thousand logs in one
process, with the runtime and with the toolkit's command. Then ten robots each send 1,000 samples
per second of 6 channels to one process over TCP for a minute. A decision is late if it arrives more
than a hop after the last sample of its window. The model is a default fit on 6 channels of
simulated motors and speeds; it decides twice a second, on windows of 1 s at 100 Hz.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common.results_file import begin, write_results

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.recording import Channel

RATE_HZ, N_CHANNELS, SECONDS = 1000.0, 6, 20.0
NAMES = tuple(f"motor_{i}" for i in range(N_CHANNELS))
TOOLKIT = "from sensorseq import SensorLSTMClassifier"
LOADED = {  # code that loads the model in a process; DECIDE then times decisions on one window
    "toolkit": f"{TOOLKIT}; model = SensorLSTMClassifier.load(sys.argv[1])",
    "runtime": "import sensorseq_runtime; model = sensorseq_runtime.load(sys.argv[1])",
}
MEMORY = 'memory = int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0])\n'
DECIDE = """
import json, time
import numpy as np
X = np.random.default_rng(0).normal(size=(1, 100, 6))
model.predict_proba(X)
took = []
for _ in range(300):
    began = time.perf_counter()
    model.predict_proba(X)
    took.append(time.perf_counter() - began)
"""
SAY = "print(json.dumps([float(np.median(took)) * 1e6, memory]))"


def signal(number: int, seconds: float = SECONDS) -> np.ndarray[Any, Any]:
    """Return samples of one of three classes of motion."""
    rng = np.random.default_rng(number)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = rng.uniform(0, 6, N_CHANNELS)
    moved = np.sin((3 + 4 * (number % 3)) * t[:, None] + phase)
    return moved + 0.4 * rng.normal(size=moved.shape)


def make_model(folder: Path) -> Path:
    """Fit and save the model."""
    channels = tuple(map(Channel, NAMES))
    recordings = []
    for i in range(24):
        x = signal(i)
        t = np.arange(len(x)) / RATE_HZ
        recordings.append(Recording(x, t, channels, f"r{i}", f"r{i}", f"class {i % 3}"))
    pipeline = PreparePipeline(window_s=1.0, hop_s=0.5, sample_rate_hz=100.0, split=None)
    path = folder / "model.safetensors"
    SensorLSTMClassifier(random_state=0).fit(pipeline.prepare(recordings)).save(path)
    return path


def write_log(path: Path, x: np.ndarray[Any, Any]) -> None:
    """Write samples as a CSV log."""
    t = np.arange(len(x)) / RATE_HZ
    np.savetxt(
        path, np.column_stack([t, x]), "%.6g", ",", header=",".join(("time", *NAMES)), comments=""
    )


def seconds_of(command: list[str]) -> float:
    """Return the duration of a process in seconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def seconds_to_first_line(command: list[str], text: bytes) -> float:
    """Return the time from the start of a process to its first line of output."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.flush()
        process.stdout.readline()
        took = time.perf_counter() - began
        process.stdin.close()
        process.stdout.read()
    return took


def in_turns(n: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Call the sides alternately, n times each, after one uncounted call of each side."""
    values_by_side: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(n + 1):
        for name, call in sides.items():
            value = call()
            if number:
                values_by_side[name].append(value)
    return values_by_side


def row(what: str, unit: str, values_by_side: dict[str, list[float]]) -> dict[str, Any]:
    """Return and print medians with the tenth and ninetieth percentiles."""
    made: dict[str, Any] = {"what": what, "unit": unit}
    for side, values in values_by_side.items():
        low, middle, high = np.percentile(values, [10, 50, 90])
        made[side] = round(float(middle), 4)
        made[f"{side}_p10"], made[f"{side}_p90"] = round(float(low), 4), round(float(high), 4)
        print(f"{what:28} {side:10} {middle:10.3f} {unit} [{low:.3f}, {high:.3f}]", flush=True)
    return made


async def robots(port: int, n_robots: int, seconds: float) -> list[float]:
    """Send several robots' samples in real time; return the delay of each decision in seconds."""
    late: list[float] = []

    async def robot(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        rows = signal(number, 2.0)
        lines = [",".join(f"{v:.6g}" for v in sample) + "\n" for sample in rows.tolist()]
        writer.write((",".join(NAMES) + "\n").encode())

        async def send() -> None:
            began, sent = time.monotonic(), 0
            while sent < seconds * RATE_HZ:
                due = int((time.monotonic() - began) * RATE_HZ)
                text = "".join(lines[i % len(lines)] for i in range(sent, due))
                writer.write(text.encode())
                await writer.drain()
                sent = due
                await asyncio.sleep(0.02)
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        async for line in reader:
            late.append(json.loads(line)["late_s"])
        await sending
        writer.close()

    await asyncio.gather(*(robot(i) for i in range(n_robots)))
    return late


def serve_robots(run: str, model: Path, seconds: float) -> dict[str, Any]:
    """Serve ten robots from one process; return the delays of the decisions."""
    port = 5793
    command = [run, "stream", str(model), "--tcp", str(port), "--sample-rate-hz", "1000"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        time.sleep(2.0)
        late = asyncio.run(robots(port, 10, seconds))
        server.terminate()  # the server ignores an interrupt if it runs in the background
        server.wait()
    in_time = float(np.mean(np.array(late) <= 0.5))
    made = row("ten robots: late", "s", {"runtime": late})
    print(f"{len(late)} decisions, {100 * in_time:.1f} % within a hop of 0.5 s")
    return {**made, "n_decisions": len(late), "within_a_hop": round(in_time, 4)}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", required=True, help="Python with sensorseq-runtime")
    parser.add_argument("--quick", action="store_true", help="fewer repeats; nothing is written")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    n, n_logs, seconds = (3, 20, 5.0) if options.quick else (15, 1000, 60.0)
    theirs, ours = sys.executable, options.python
    bins = {
        "toolkit": str(Path(theirs).parent / "sensorseq"),
        "runtime": str(Path(ours).parent / "sensorseq-run"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder)
        write_log(folder / "log.csv", signal(1))
        text = (folder / "log.csv").read_bytes()
        rows = [
            row(
                "import",
                "s",
                in_turns(
                    n,
                    numpy=lambda: seconds_of([ours, "-c", "import numpy"]),
                    runtime=lambda: seconds_of([ours, "-c", "import sensorseq_runtime"]),
                    toolkit=lambda: seconds_of([theirs, "-c", TOOLKIT]),
                ),
            )
        ]
        first = {
            side: lambda run=run: seconds_to_first_line(
                [run, "stream", str(model), "--sample-rate-hz", "1000"], text
            )
            for side, run in bins.items()
        }
        rows.append(row("first decision", "s", in_turns(n, **first)))
        measured: dict[str, list[list[float]]] = {"toolkit": [], "runtime": []}
        empty: list[float] = []
        for _ in range(n):
            for side, python in (("toolkit", theirs), ("runtime", ours)):
                code = f"import sys; {LOADED[side]}{DECIDE}{MEMORY}{SAY}"
                done = subprocess.run(
                    [python, "-c", code, str(model)], check=True, capture_output=True, text=True
                )
                measured[side].append(json.loads(done.stdout))
            code = f"import numpy; {MEMORY}print(memory)"
            empty.append(float(subprocess.check_output([ours, "-c", code])) / 1024)
        microseconds = {side: [pair[0] for pair in pairs] for side, pairs in measured.items()}
        rows.append(row("one decision", "us", microseconds))
        memory = {side: [pair[1] / 1024 for pair in pairs] for side, pairs in measured.items()}
        rows.append(row("memory", "MB", {"numpy": empty, **memory}))
        logs = []
        for i in range(n_logs):
            logs.append(str(folder / f"{i}.csv"))
            os.link(folder / "log.csv", logs[-1])
        for side, run in bins.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = seconds_of([run, "predict", str(model), *logs, "--quiet"])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
            print(f"{n_logs} logs: {side} {took:.1f} s on {busy:.2f} cores")
            what = {"what": f"{n_logs} logs", "side": side, "unit": "s", "cores": round(busy, 2)}
            rows.append({**what, "seconds": round(took, 2)})
        rows.append(serve_robots(bins["runtime"], model, seconds))
    write_results("runtime", rows, code=code, partial=options.quick)


if __name__ == "__main__":
    main()
