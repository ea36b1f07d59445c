"""Moves initial weights and features by one unit in the last place, as another processor might.

`install(seed)` wraps the few functions that make initial weights or fit on features. A function is
wrapped when its module is imported, so the package itself is unchanged. A move is a pure function
of the seed, the name of the array and the index in the array, so the same seed gives the same bits
in any order of calls.

Processes that a test starts import this folder's `sitecustomize.py`, and find the seed and the log
in the environment. Each process appends its moves and training runs to the log.
"""

import contextlib
import functools
import hashlib
import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SEED, LOG, FIXTURE = "ROUNDING_SEED", "ROUNDING_LOG", "ROUNDING_FIXTURE"
_PARTS = ("lstm.", "linear.")  # random parts of an LSTMLinear; its norm starts at exactly 1
HERE = str(Path(__file__).resolve().parent)


def moves(seed, name, places):
    """Return -1, 0 or 1 for each integer in `places`, such as an index or the bits of a value."""
    key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    z = np.asarray(places).astype(np.uint64) + np.frombuffer(key, np.uint64)
    # splitmix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(3)).astype(np.int8) - np.int8(1)


def moved(values, steps):
    """Move each value by its number of units in the last place; zero stays zero."""
    direction = np.where(steps > 0, np.inf, -np.inf).astype(values.dtype)
    to = np.nextafter(values, direction)
    return np.where((steps == 0) | (values == 0) | ~np.isfinite(to), values, to)


def move_weights(seed, name, values):
    """Move an array of weights; each move depends on the index in the array."""
    steps = moves(seed, name, np.arange(values.size)).reshape(values.shape)
    return moved(values, steps)


def move_features(seed, values):
    """Move features (n, F) by column and value, so that equal values stay equal."""
    bits = np.ascontiguousarray(values).view({4: np.uint32, 8: np.uint64}[values.itemsize])
    columns = np.arange(values.shape[1], dtype=np.uint64) << np.uint64(32)
    return moved(values, moves(seed, "features", bits ^ columns))


class Nudge:
    """The moves of a seed (no moves if the seed is None) and their log."""

    def __init__(self, seed, log):
        self.seed, self.log = seed, log
        self._stepped = None  # the test whose training loop has been logged

    def note(self, what, count=1):
        """Log an action of a test in a single write, so that the lines of processes do not mix."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" ", 1)[0]
        line = json.dumps([what, test, os.environ.get(FIXTURE, ""), int(count)]) + "\n"
        with contextlib.suppress(OSError):  # a test may fill the disk
            file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)

    def weights(self, module, prefix=""):
        """Move a module's newly drawn weights in place; initial biases are exact."""
        import torch

        changed = 0
        for name, tensor in module.named_parameters(recurse=bool(prefix)):
            if "weight" not in name or not name.startswith(prefix) or self.seed is None:
                continue
            if tensor.is_meta or tensor.dtype not in (torch.float32, torch.float64):
                continue
            before = tensor.detach().cpu().numpy()
            # the last part of the name does not depend on the module that contains the LSTM
            after = move_weights(self.seed, name.rsplit(".", 1)[-1], before)
            changed += int((after != before).sum())
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(after))
        self.note("drawn")
        self.note("moved", changed)

    def features(self, values):
        """Return moved features, and log a fit on them."""
        self.note("trained")
        is_table = isinstance(values, np.ndarray) and values.ndim == 2 and values.size
        if self.seed is None or not is_table or values.dtype not in (np.float32, np.float64):
            self.note("moved", 0)
            return values
        after = move_features(self.seed, values)
        self.note("moved", (after != values).sum())
        return after

    def step(self, *_):
        """Log the first step of a torch optimizer in each test."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "") + os.environ.get(FIXTURE, "")
        if self._stepped != test:
            self._stepped = test
            self.note("stepped")

    # Wrappers, by module.

    def patches(self):
        """Return a function for each module; the function is called once the module is imported."""

        def after(home, name, do):
            plain = getattr(home, name)

            @functools.wraps(plain)
            def wrapped(*args, **kwargs):
                result = plain(*args, **kwargs)
                do(*args, **kwargs)
                return result

            setattr(home, name, wrapped)

        def on_features(home, name, at):
            plain = getattr(home, name)

            @functools.wraps(plain)
            def wrapped(*args, **kwargs):
                changed = list(args)
                if len(changed) > at:
                    changed[at] = self.features(changed[at])
                else:  # X is passed by name, as in scikit-learn
                    kwargs["X"] = self.features(kwargs["X"])
                return plain(*changed, **kwargs)

            setattr(home, name, wrapped)

        def of_layers(*classes):
            return lambda home: [
                after(getattr(home, name), "reset_parameters", self.weights) for name in classes
            ]

        def trained(*_, **__):
            self.note("trained")

        return {
            "torch.nn.modules.linear": of_layers("Linear"),
            "torch.nn.modules.rnn": of_layers("RNNBase"),
            "torch.nn.modules.conv": of_layers("_ConvNd"),
            "torch.optim.optimizer": lambda m: m.register_optimizer_step_post_hook(self.step),
            "sensorseq.nn.lstm_linear": lambda m: after(
                m.LSTMLinear, "reset_parameters", lambda module: self.weights(module, "lstm.")
            ),
            "sensorseq.training.torch_network": lambda m: after(
                m, "initialize_weights", lambda module, *_, **__: self.weights(module, _PARTS)
            ),
            "sensorseq.training.engine": lambda m: after(m.TrainingRun, "__init__", trained),
            "sensorseq.learners.linear": lambda m: on_features(m, "fit_ridge", 0),
            "sensorseq.features.grow_trees": lambda m: on_features(m, "grow_trees", 0),
            "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": lambda m: on_features(
                m.BaseHistGradientBoosting, "fit", 1
            ),
            "sklearn.ensemble._forest": lambda m: on_features(m.BaseForest, "fit", 1),
        }


class _Finder:
    """Finds the modules to wrap as Python does, and wraps them after they are executed."""

    def __init__(self, patches):
        self._patches = patches

    def find_spec(self, name, path=None, target=None):
        patch = self._patches.get(name)
        spec = patch and importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_wrap(module):
            run(module)
            patch(module)

        spec.loader.exec_module = run_and_wrap
        return spec


def install(seed, log):
    """Move initial weights and features from now on, in this process and its children."""
    nudge = Nudge(seed, log)
    patches = nudge.patches()
    for name in patches.keys() & sys.modules.keys():
        patches[name](sys.modules[name])
    sys.meta_path.insert(0, _Finder(patches))
    environment = {SEED: "" if seed is None else str(seed), LOG: str(log)}
    os.environ.update(environment, PYTHONPATH=_with_path(os.environ.get("PYTHONPATH")))
    start = subprocess.Popen.__init__

    @functools.wraps(start)
    def started(self, *args, env=None, **kwargs):
        if env is not None:  # for tests that pass an environment of their own
            ours = {k: os.environ[k] for k in (FIXTURE, "PYTEST_CURRENT_TEST") if k in os.environ}
            env = {**ours, **environment, **env, "PYTHONPATH": _with_path(env.get("PYTHONPATH"))}
        start(self, *args, env=env, **kwargs)

    subprocess.Popen.__init__ = started


def read_log(path):
    """Return the lines of a log: action, test, fixture and count."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _with_path(path):
    parts = [part for part in (path or "").split(os.pathsep) if part and part != HERE]
    return os.pathsep.join([HERE, *parts])
