"""Kills processes at random moments: `python benchmarks/harden/kills.py [--kills 200]`.

The program kills `prepare` in one process and with two workers, training with both engines, and the
writers of models, reports and prepared files. A killed preparation must resume and produce the same
bytes as an uninterrupted one. A killed training run must leave a checkpoint that equals an
uninterrupted run's checkpoint of the same epoch. A killed writer must leave a complete file, either
the earlier or the new one. No process may be left, and no temporary file may be left after the next
run. The last line of the output is a JSON summary.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
sys.path[:0] = [str(ROOT), str(SUPPORT)]

from killing import Program, serve  # noqa: E402
from preparing import names_in  # noqa: E402
from small_recordings import write_recordings  # noqa: E402


def _are_gone(pids, within_s=15):
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(_is_alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _is_alive(pid):
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def kill_prepare(n_kills, rng, jobs, failures):
    n_killed = 0
    with (
        tempfile.TemporaryDirectory() as temporary,
        Program(SUPPORT / "killable_preparations.py") as p,
    ):
        folder = Path(temporary)
        source = write_recordings(folder / "terrains")
        output = folder / "w.h5"
        arguments = {"source": str(source), "output": str(output), "window_s": 2, "hop_s": 1}
        arguments["jobs"] = jobs
        _, whole_s, _ = p.run(**arguments)
        whole = output.read_bytes()
        while n_killed < n_kills:
            output.unlink(missing_ok=True)
            code, _, children = p.run(rng.uniform(0, whole_s), **arguments)
            if code == 0:
                continue
            n_killed += 1
            if not _are_gone(children):
                failures.append(f"prepare -j {jobs}: workers outlive their killed parent")
            if output.exists() and output.read_bytes() != whole:
                failures.append(f"prepare -j {jobs}: a partly written file is left")
            code, _, _ = p.run(**arguments, resume=True)
            if code != 0 or output.read_bytes() != whole:
                failures.append(f"prepare -j {jobs}: resumed to other bytes")
            if names_in(folder) != ["terrains", "w.h5"]:
                failures.append(f"prepare -j {jobs}: left behind {names_in(folder)}")
    return n_killed


def kill_train(n_kills, rng, engine, failures):
    from killable_runs import content, contents

    n_killed = 0
    with tempfile.TemporaryDirectory() as temporary, Program(SUPPORT / "killable_runs.py") as p:
        folder = Path(temporary)
        copies, path = folder / "copies", folder / "run"
        copies.mkdir()
        arguments = {"checkpoint": str(path), "engine": engine, "least_epoch_s": 0.01}
        _, whole_s, _ = p.run(**arguments, copies=str(copies))
        checkpoints = contents(copies)
        while n_killed < n_kills:
            path.unlink(missing_ok=True)
            n_killed += p.run(rng.uniform(0, whole_s), **arguments)[0] != 0
            if path.exists():
                n_epochs, arrays = content(path)
                if arrays != checkpoints.get(n_epochs):
                    failures.append(f"train {engine}: the checkpoint is of no epoch")
        if p.run(**arguments)[0] != 0 or content(path) != (
            max(checkpoints),
            checkpoints[max(checkpoints)],
        ):
            failures.append(f"train {engine}: ends with other bytes")
        if names_in(folder) != ["copies", "run"]:
            failures.append(f"train {engine}: left behind {names_in(folder)}")
    return n_killed


def kill_writers(n_kills, rng, failures):
    n_killed = 0
    with tempfile.TemporaryDirectory() as temporary, Program(__file__, "--writer") as p:
        folder = Path(temporary)
        versions_by_name = {}
        for version in (0, 1):
            p.run(folder=str(folder), versions=[version])
            for path in folder.iterdir():
                versions_by_name.setdefault(path.name, []).append(path.read_bytes())
        while n_killed < n_kills:
            request = {"folder": str(folder), "versions": [0, 1] * 500}
            code, _, _ = p.run(rng.uniform(0, 0.2), **request)
            if code == 0:
                continue
            n_killed += 1
            for name, versions in versions_by_name.items():
                if not (folder / name).exists() or (folder / name).read_bytes() not in versions:
                    failures.append(f"writers: {name} is incomplete")
        p.run(folder=str(folder), versions=[0])
        left = set(names_in(folder)) - set(versions_by_name)
        if left:
            failures.append(f"writers: {len(left)} temporary files are left after the next run")
    return n_killed


def serve_writers():
    """Write versions of a model, a page and a prepared file, in one forked process per request."""
    import numpy as np
    import torch

    from sensorseq import SensorLSTMClassifier
    from sensorseq.diagnosis import FluctuationReport
    from sensorseq.io.prepared import write_windows
    from sensorseq.windows import WindowSet

    torch.set_num_threads(1)
    made = []
    for seed in (0, 1):
        X = np.random.default_rng(seed).normal(size=(40, 20, 3)).astype(np.float32)
        y = np.arange(40) % 2
        settings = {"max_epochs": 12, "features": None, "refit": None, "random_state": seed}
        model = SensorLSTMClassifier(hidden_size=48, **settings).fit(X, y)
        rows = [{"loss": 1 / e, "val_loss": 1 / e + seed} for e in range(1, 30)]
        made.append((model, FluctuationReport.from_history(rows, n_val=50), WindowSet(X, y=y)))

    def write(folder, versions):
        for model, report, windows in (made[version] for version in versions):
            model.save(Path(folder, "model.safetensors"))
            report.to_html(Path(folder, "report.html"))
            write_windows(Path(folder, "windows.h5"), windows)

    serve(write)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writer", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.writer:
        serve_writers()
        return 0
    rng, failures = random.Random(asked.seed), []
    share = asked.kills // 5
    parts = {
        "prepare": kill_prepare(share, rng, 1, failures),
        "prepare -j 2": kill_prepare(share, rng, 2, failures),
        "train, native": kill_train(share, rng, "native", failures),
        "train, autograd": kill_train(share, rng, "autograd", failures),
        "writers": kill_writers(asked.kills - 4 * share, rng, failures),
    }
    summary = {"trials": sum(parts.values()), "failures": len(failures), "parts": parts}
    print(json.dumps(summary | {"what": sorted(set(failures))}))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
