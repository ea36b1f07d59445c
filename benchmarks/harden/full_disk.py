"""Runs commands whose disk fills at a random moment: `python benchmarks/harden/full_disk.py`.

The commands are `prepare`, training, and the commands that write report pages, ONNX and C.
`prepare` runs in one process, with two workers, with scratch files of large recordings, and with
dask. Training writes its model, or only its checkpoint, to the disk. The disk is a small file
system in memory. In half of the runs the disk fills up at a random moment, in the other half after
a random number of bytes. A command must end with exit code 4 and one message, or with exit code 0
and the outputs of an undisturbed run. After a failure, the earlier output must still exist, and no
partly written file may exist. When there is free space again, a preparation must resume and produce
the same bytes as an undisturbed run. The last line of the output is a JSON summary.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
DISK_BYTES = 4 << 20
BLOCK = 4096
FIT = ["--max-epochs", "4", "--no-compare", "--set", "features=none", "--set", "refit=none", "-q"]


class Disk:
    """A small file system in memory, and a file that fills it."""

    def __init__(self, folder):
        self.folder, self._fill = folder, folder / "fill"

    def __enter__(self):
        self.folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"no file system can be mounted here: {done.stderr.strip()}")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def used(self):
        facts = os.statvfs(self.folder)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize

    def fill(self, n_free=0):
        """Fill the disk except for `n_free` bytes."""
        with contextlib.suppress(OSError), self._fill.open("ab", buffering=0) as file:
            while (free := DISK_BYTES - self.used() - n_free) >= BLOCK:
                file.write(bytes(min(free // BLOCK, 64) * BLOCK))

    def empty(self):
        self._fill.unlink(missing_ok=True)

    def names(self):
        files = (path for path in self.folder.rglob("*") if path.is_file() and path != self._fill)
        return sorted(path.relative_to(self.folder).as_posix() for path in files)


class Command:
    """A command and the outputs of its undisturbed run."""

    def __init__(self, name, words, outputs, *, earlier=(), always=False, setting=None):
        self.name, self.words, self.outputs = name, [str(word) for word in words], outputs
        self.earlier, self.always, self.setting = dict(earlier), always, setting

    def put_earlier(self):
        for path, source in self.earlier.items():
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, path)

    def start(self, errors, *more):
        """Run the command in a forked process; return its process id."""
        from sensorseq import cli, options

        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if self.setting == "scratch":
                options.LARGE_BYTES = 1000
            code = cli.run([*self.words, *more])
        finally:
            sys.stderr.flush()
            os._exit(code)

    def contents(self):
        return [content_of(path) if path.exists() else None for path in self.outputs]


def content_of(path):
    """Return a file's bytes, or the arrays of a model, whose file also contains durations."""
    if path.suffix:
        return path.read_bytes()
    from sensorseq.io.model_file import read_model

    return {name: array.tobytes() for name, array in read_model(path)[0].items()}


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def clear(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(command, disk, errors):
    """Run a command undisturbed; store its outputs, its duration and its peak disk usage."""
    clear(disk.folder)
    command.put_earlier()
    before, most, is_done = disk.used(), [0], threading.Event()

    def watch():
        while not is_done.wait(2e-4):
            most[0] = max(most[0], disk.used() - before)

    began = time.perf_counter()
    pid = command.start(errors)
    watcher = threading.Thread(target=watch)  # start the thread after the fork
    watcher.start()
    code = wait(pid)
    command.seconds = time.perf_counter() - began
    is_done.set()
    watcher.join()
    if code:
        sys.exit(f"{command.name} fails on an empty disk: {Path(errors).read_text()}")
    command.most = max(most[0], BLOCK)
    command.expected = command.contents()


def disturb(command, disk, errors, draw, by_bytes):
    """Run a command while the disk fills; return its exit code and the errors."""
    clear(disk.folder)
    command.put_earlier()
    earlier = command.contents()
    if by_bytes:
        disk.fill(draw.randrange(0, command.most + BLOCK, BLOCK))
    pid = command.start(errors)
    if not by_bytes:
        time.sleep(draw.uniform(0, command.seconds))
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            disk.fill()
            time.sleep(1e-3)
    code, messages = wait(pid), Path(errors).read_text()
    wrong = list(faults(command, disk, code, messages, earlier))
    disk.empty()
    if command.name.startswith("prepare") and code and not wrong:
        resume = ["--resume"] if (disk.folder / "w.h5.parts").exists() else []
        if wait(command.start(errors, *resume)) or command.contents() != command.expected:
            wrong.append(f"does not resume: {Path(errors).read_text()}")
        if disk.names() != [path.name for path in command.outputs]:
            wrong.append(f"left after resuming: {disk.names()}")
    return code, wrong


def faults(command, disk, code, messages, earlier):
    """Yield what is wrong after a disturbed run."""
    if code not in ((0,) if command.always else (0, 4)):
        yield f"exit code {code}"
    if "Errno" in messages or "Traceback" in messages or "Exception ignored" in messages:
        yield "a raw error"
    if messages.count("error: ") != bool(code):
        yield "not one message"
    if command.always and messages.count("warning: ") > 1:
        yield "more than one warning"
    if command.contents() != (earlier if code else command.expected):
        yield "another output"
    outputs = {path.relative_to(disk.folder).as_posix() for path in command.outputs
               if path.is_relative_to(disk.folder)}  # fmt: skip
    for name in set(disk.names()) - outputs:
        is_part = name.startswith("w.h5.parts/") and name.endswith(".part")
        if name == "run.checkpoint":
            from sensorseq.io.model_file import read_model

            read_model(disk.folder / name)
        elif not is_part or (is_part and not code):
            yield f"left: {name}"


def make_commands(place, disk):
    """Write the input files of the commands, and return the commands."""
    from sensorseq import cli

    windows, model = place / "w.h5", place / "m.safetensors"
    other, page, graph, code = (place / n for n in ("o.h5", "p.html", "g.onnx", "c"))

    def run(*words):
        with contextlib.redirect_stdout(io.StringIO()):
            if cli.run([str(word) for word in words]):
                sys.exit(f"{words[0]} fails")

    prepare = ["prepare", ROOT / "data" / "surfaces", "--files", "robot_0[0-2]_00.csv.gz"]
    prepare += ["--labels", "ice,sand", "--sample-rate-hz", "50", "-q"]
    run(*prepare, "--window-s", "2", "-o", windows)
    run(*prepare, "--window-s", "4", "-o", other)
    pid = os.fork()  # so that torch starts no threads in this process
    if not pid:
        run("train", windows, "-o", model, *FIT, "--seed", "1")
        run("diagnose", model, "--html", page)
        run("export", model, "-o", graph)
        run("export", model, "--format", "c", "-o", code)
        os._exit(0)
    wait(pid)
    new = disk.folder
    prepared = [new / "w.h5"], [(new / "w.h5", other)]
    prepare += ["--window-s", "2", "-o", *prepared[0]]
    fitted = [new / "m"], [(new / "m", model)]
    sources = [new / "c" / f"sensorseq_model.{kind}" for kind in "hc"]
    there = [(path, code / path.name) for path in sources]
    train = ["train", windows, *FIT]
    run_at = f"checkpoint={new / 'run.checkpoint'}"
    return [
        Command("prepare", prepare, prepared[0], earlier=prepared[1]),
        Command("prepare -j 2", [*prepare, "-j", 2], prepared[0], earlier=prepared[1]),
        Command("prepare, scratch", prepare, prepared[0], earlier=prepared[1], setting="scratch"),
        Command("prepare, dask", [*prepare, "--engine", "dask"], prepared[0], earlier=prepared[1]),
        Command("train", [*train, "-o", new / "m"], fitted[0], earlier=fitted[1]),
        Command("train, checkpoint", [*train, "-o", place / "new", "--set", run_at],
                [place / "new"], always=True),
        Command("report", ["diagnose", model, "--html", new / "p.html"], [new / "p.html"],
                earlier=[(new / "p.html", page)]),
        Command("export, ONNX", ["export", model, "-o", new / "g.onnx"], [new / "g.onnx"],
                earlier=[(new / "g.onnx", graph)]),
        Command("export, C", ["export", model, "--format", "c", "-o", new / "c"], sources,
                earlier=there),
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, codes, bad = random.Random(options.seed), Counter(), []
    os.environ["OMP_NUM_THREADS"] = "1"
    import sensorseq.estimator
    import sensorseq.prepare  # noqa: F401  before the first fork

    with tempfile.TemporaryDirectory() as name, Disk(Path(name) / "disk") as disk:
        place, errors = Path(name), Path(name) / "stderr"
        commands = make_commands(place, disk)
        for command in commands:
            measure(command, disk, errors)
        # the slow commands, with dask and workers, are drawn rarely
        weights = [1 / command.seconds**0.5 for command in commands]
        for trial in range(options.disks):
            first = trial < 2 * len(commands)
            command = commands[trial // 2] if first else draw.choices(commands, weights)[0]
            code, wrong = disturb(command, disk, errors, draw, by_bytes=bool(trial % 2))
            codes[f"{command.name}: {code}"] += 1
            if wrong:
                bad.append({"trial": trial, "command": command.name, "wrong": wrong})
                print(f"{trial} {command.name}: {wrong}\n{errors.read_text()}", flush=True)
    summary = {"trials": options.disks, "failures": len(bad), "exit_codes": codes, "bad": bad}
    print(json.dumps(summary))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
