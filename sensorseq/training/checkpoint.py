"""Checkpoint: write the state of a run to a file, and resume from it."""

import importlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.errors import (
    LACKS_SPACE,
    CheckpointError,
    CheckpointOutputError,
    InputError,
    MisplacedOutputError,
    OutputError,
    reason_of,
    warn_caller,
    writing,
)
from sensorseq.history import History
from sensorseq.io.atomic import locking, real_file, write_whole
from sensorseq.io.model_file import (
    CHECKPOINT,
    check_replaceable,
    from_jsonable,
    pack,
    to_jsonable,
    unpack,
)
from sensorseq.ops import _extension
from sensorseq.training.batches import TrainingData, digest_tensors
from sensorseq.training.config import TrainingConfig, check_checkpoint
from sensorseq.training.network import ARCHITECTURE
from sensorseq.training.stream import StreamedData

# Arguments of the estimator that do not affect what is learned, or that the identity covers in
# another form: the chosen device and engine, the initial weights.
NOT_SHAPING = (
    "callbacks",
    "checkpoint",
    "checkpoint_every",
    "device",
    "engine",
    "resume",
    "verbose",
    "warm_start",
)
_LONGEST_SHOWN = 60  # longest value shown, in characters


def make_identity(
    module: nn.Module,
    train: TrainingData | StreamedData,
    validation: TrainingData | StreamedData | None,
    config: TrainingConfig,
    seed: np.random.SeedSequence,
    engine: str,
) -> dict[str, dict[str, Any]]:
    """Return plain values that must be equal for a run to be resumed.

    The digest of the initial weights is computed from the current `module`. A change of
    ``"surroundings"`` only causes a warning.
    """
    device = next(module.parameters()).device
    named = dict(vars(config))
    named |= {name: getattr(module, name) for name in ARCHITECTURE if hasattr(module, name)}
    data = {f"training {part}": value for part, value in train.digests().items()}
    if validation is not None:
        digests = validation.digests()
        data |= {f"validation {part}": value for part, value in digests.items()}
    return {
        "arguments": {**plain_arguments(named), "engine": engine, "device": device.type},
        "contents": {
            **data,
            "random_state": _described([seed.entropy, *seed.spawn_key, seed.n_children_spawned]),
            "network": _described(repr(module)),
            "first weights": digest_tensors(module.state_dict()),
        },
        "surroundings": _surroundings(device, engine),
    }


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that determine a run, in a form that files can store."""
    return {name: _described(value) for name, value in arguments.items() if name not in NOT_SHAPING}


def differences(
    here: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Describe, for an error, how a run differs from that of a checkpoint."""
    said = [
        f"{name} is {_short(value)}, but the checkpoint was made with {_short(other)}"
        for name, value, other in _changed(here["arguments"], there["arguments"])
    ]
    contents = [name for name, *_ in _changed(here["contents"], there["contents"], both=False)]
    if said:  # the other differences follow from these arguments
        contents = [name for name in contents if name not in ("network", "first weights")]
    return said + [f"the {name} differ{'' if name.endswith('s') else 's'}" for name in contents]


def _changed(
    here: Mapping[str, Any], there: Mapping[str, Any], *, both: bool = True
) -> list[tuple[str, Any, Any]]:
    """List the names whose values differ; with `both`, only names present on both sides."""
    names = [name for name in here if name in there] if both else dict.fromkeys([*here, *there])
    pairs = [(name, here.get(name), there.get(name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _described(value: Any) -> Any:
    """Return a value in a form that files can store; functions and objects become their name."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        to_jsonable(value)
    except InputError:
        return _without_address(repr(value))
    return _without_address(value) if isinstance(value, str) else value


def _without_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _surroundings(device: torch.device, engine: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "sensorseq": importlib.import_module("sensorseq").__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if device.type == "cuda":
        facts["the GPU"] = torch.cuda.get_device_name(device)
    else:
        facts["the instruction set"] = _extension.cpu_isa()
    if engine == "autograd":  # the native engine gives the same bits for any number of threads
        facts["the number of threads"] = torch.get_num_threads()
    return facts


_TENSOR, _ITEMS = "tensor", "items"  # tags of a tensor, and of a mapping whose keys are not strings


def pack_state(state: Any) -> tuple[dict[str, NDArray[Any]], Any]:
    """Split a nested state into copies of its tensors, by path, and the rest for JSON.

    In the rest each tensor is replaced by its path. `unpack_state` returns tuples as lists.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            arrays[name] = value.numpy(force=True).copy()
            return {_TENSOR: name}
        if isinstance(value, dict):
            parts = {key: pack(part, f"{name}/{key}") for key, part in value.items()}
            if all(type(key) is str for key in parts):
                return parts
            return {_ITEMS: list(parts.items())}
        if isinstance(value, list | tuple):
            return [pack(part, f"{name}/{i}") for i, part in enumerate(value)]
        return value

    return arrays, pack(state, "state")


def unpack_state(arrays: Mapping[str, NDArray[Any]], plain: Any) -> Any:
    """Rebuild the state from `pack_state`, with new tensors on the CPU."""
    if isinstance(plain, dict):
        if _TENSOR in plain:
            return torch.tensor(arrays[plain[_TENSOR]])
        if _ITEMS in plain:
            return {key: unpack_state(arrays, part) for key, part in plain[_ITEMS]}
        return {key: unpack_state(arrays, part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [unpack_state(arrays, part) for part in plain]
    return plain


_HISTORY = "history"
_FLUSH_S = 1.0  # shortest time between two checkpoints that are flushed to disk
_PROBE_S = 1.0  # longer than the other ranks of a distributed run need to test the lock


class Resumable(Protocol):
    """The interface of a training run for checkpoints."""

    history: History

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""


class Checkpoint:
    """Write a run to a file, and resume from it.

    The whole file is replaced after every `every`-th epoch and after the last one, so a killed
    process leaves the last complete file. If a run ends early (Ctrl-C, a callback, an error), its
    last finished epoch is written. A resumed run is bit for bit the same as an uninterrupted one,
    except for `duration_s`. A checkpoint with other `arguments` is rejected; a new run overwrites a
    checkpoint of this name, but no other file. The file has about four times the size of the
    network, plus some bytes per epoch for each tracked window. While one run writes to it, others
    raise an error. If it cannot be written, for example on a full disk, a single warning is given,
    and the run continues.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        resume: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        check_checkpoint(path, every, resume)
        self.path = Path(path)
        self._arguments = dict(arguments or {})
        self._every = every
        # contents of the checkpoint to resume from
        self._stored: tuple[dict[str, NDArray[Any]], Any] | None = None
        self._identity: dict[str, dict[str, Any]] = {}  # identity of that run
        self._identity_text = "{}"
        self._rows = bytearray()  # the history as stored, a line of JSON for each epoch
        self._n_rows = 0  # number of rows in `_rows`
        # State that is not written yet.
        self._pending: tuple[dict[str, NDArray[Any]], Any] | None = None
        self._flushed_s = -np.inf
        self._held = ExitStack()  # holds the lock of the file
        self._has_warned = False
        self._hold(run=False)
        if self.path.exists():
            if resume:
                arrays, description = unpack(CHECKPOINT, self.path)
                with self._reading():
                    self._identity = from_jsonable(description["identity"])
                    self._stored = arrays, description["state"]
            else:
                check_replaceable(self.path)

    @property
    def entropy(self) -> int | None:
        """Entropy of the run in the file, from which its seeds come; None if no run is resumed."""
        if self._stored is None:
            return None
        with self._reading():
            entropy: int = self._identity["contents"]["random_state"][0]
            return entropy

    def begin(self, identity: Mapping[str, Any], *, writes: bool = True) -> None:
        """Compare the run's identity with the file's; raise `CheckpointError` if they differ.

        A run that `writes` locks the file until `close`.
        """
        named = {**identity["arguments"], **plain_arguments(self._arguments)}
        self._identity_text = json.dumps(to_jsonable({**identity, "arguments": named}))
        if self._stored is not None:
            self._check_identity(from_jsonable(json.loads(self._identity_text)))
        if writes:
            self._hold(run=True)

    def _hold(self, *, run: bool) -> None:
        """Lock the file; without `run`, only test that it is free and can be written."""
        try:
            with writing(self.path):
                self._held.enter_context(locking(self.path, run=run, wait_s=_PROBE_S))
        except OutputError as problem:
            reason = problem.__cause__
            if not isinstance(reason, OSError) or reason.errno not in LACKS_SPACE:
                is_misplaced = isinstance(problem, MisplacedOutputError)
                kind = CheckpointError if is_misplaced else CheckpointOutputError
                raise kind(f"checkpoint {problem}") from problem
            # a write error is no reason not to train: the first write warns
        if not run:
            self._held.close()

    def discard(self) -> None:
        """Remove the file of an earlier run if this one starts from the beginning."""
        if self._stored is None:
            real_file(self.path).unlink(missing_ok=True)

    def restore(self, run: Resumable) -> None:
        """Restore a run that is about to begin from the checkpoint, if there is one."""
        if self._stored is None:
            return
        arrays, state = self._stored
        with self._reading():
            self._rows = bytearray(arrays[_HISTORY].tobytes())
            rows = [json.loads(line) for line in self._rows.decode().splitlines()]
            self._n_rows = len(rows)
            run.load_state_dict(unpack_state(arrays, state))
            run.history = History(rows)
        self._stored = None

    def keep(self, run: Resumable, *, last: bool) -> None:
        """Store a run's state after an epoch; write it if it is due or the last."""
        self._pending = pack_state(run.state_dict())
        n_epochs = len(run.history)
        for i in range(self._n_rows, n_epochs):
            self._rows += json.dumps(run.history[i]).encode() + b"\n"
            self._n_rows = i + 1
        if last or not n_epochs % self._every:
            self._write(last=last)

    def close(self) -> None:
        """Write what is still pending, and unlock the file."""
        try:
            self._write(last=True)
        finally:
            self._pending = None
            self._held.close()

    def _write(self, *, last: bool) -> None:
        """Write the pending state to the file, if there is one.

        Unless it is the last, it is not flushed to disk within a second of the previous flush: a
        power failure may damage it, but reading detects that.
        """
        if self._pending is None:
            return
        arrays, plain = self._pending
        description = f'{{"identity":{self._identity_text},"state":{json.dumps(plain)}}}'
        arrays[_HISTORY] = np.frombuffer(bytes(self._rows), np.uint8)
        now_s = time.monotonic()
        is_flushed = last or now_s - self._flushed_s >= _FLUSH_S
        try:
            write_whole(self.path, pack(CHECKPOINT, arrays, description), force=is_flushed)
        except OutputError as problem:
            self._warn_once(problem)
        else:
            self._flushed_s = now_s if is_flushed else self._flushed_s
        self._pending = None

    def _warn_once(self, problem: OutputError) -> None:
        """Warn once that a checkpoint could not be written; training continues."""
        if self._has_warned:
            return
        self._has_warned = True
        reason = problem.__cause__ or problem
        why = reason_of(reason) if isinstance(reason, OSError) else str(problem)
        there = "keeps an earlier epoch" if self.path.exists() else "does not exist"
        warn_caller(
            f"the checkpoint {self.path} cannot be written ({why}). Training continues without"
            f" checkpoints; the file {there}."
        )

    def _check_identity(self, here: Mapping[str, Any]) -> None:
        there = self._identity
        with self._reading():
            found = differences(here, there)
            changed = _changed(here["surroundings"], there["surroundings"], both=False)
        if found:
            raise CheckpointError(
                f"the checkpoint {self.path} is from another run: {'; '.join(found)}. Use the same"
                " arguments and data, give `checkpoint` another name, or set resume=False to"
                " overwrite it."
            )
        if changed:
            told = "; ".join(
                f"{name} is {value}, but was {other}" for name, value, other in changed
            )
            warn_caller(
                f"the checkpoint {self.path} was made in another environment: {told}."
                " The run resumes, but its result may not be bit for bit the same.",
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Convert errors from content that is malformed despite a correct checksum."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # any part may raise for invalid content
            raise CheckpointError(
                f"the checkpoint {self.path} is inconsistent: {error}. Delete it to start over, or"
                " give `checkpoint` another name."
            ) from error
