"""Checks that two versions of the package compute the same bits, for changes that only move code.

    compare_bits.py write FOLDER          # runs the imported package: forty fits, ten files, ...
    compare_bits.py compare BEFORE AFTER  # prints the differences between two such folders

Write one folder for each commit (`PYTHONPATH=CHECKOUT python scripts/compare_bits.py write ...`),
with the extensions of that commit built. Use the same machine for all commits, because bits differ
between processors. Timings and versions are not compared. All inputs are from this checkout's
`data/`. `EXPECTED` lists the intended differences.
"""

import fnmatch
import hashlib
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# names whose hashes may differ (shell patterns) -> the change that explains the difference
EXPECTED: dict[str, str] = {
    "c *": "comments and names of local variables changed; the compiled code is the same",
    "*model *field description": "sentences of the report that the file contains",
}

DATA = Path(__file__).resolve().parent.parent / "data" / "surfaces"
LEFT_OUT = (
    "sha256",
    "duration_s",
    "fit_s",
    "probes_s",
    "sensorseq_version",
    "versions",
    "created",
    "commit",
)
OPTIONS: dict[str, list[Any]] = {
    "features": [None, "auto", ["rocket"], ["summary"]],
    "optimizer": ["adamw", "sgd", "rmsprop"],
    "lr_schedule": ["cosine", "constant", "plateau"],
    "pooling": ["meanmax", "last", "mean", "max"],
    "loss": ["cross_entropy", "focal"],
    "scale": ["standard", "robust", None],
    "dropout": [0.3, 0.0],
    "num_layers": [1, 2],
    "bidirectional": [False, True],
    "batch_size": [32, 7, None],
    "class_weight": [None, "balanced"],
    "ema_decay": [0.0, 0.9],
    "patch": ["auto", None, 3],
    "refit": ["auto", None],
    "early_stopping": [False, True],
    "dtype": ["float32", "float64"],
    "weight_init": ["xavier", "orthogonal"],
    "max_grad_norm": [1.0, None],
}
N_FITS, N_MODELS, N_SOURCES = 40, 10, 6
SURFACES, N_ROBOTS = ("carpet", "ice", "paving"), 5
STEPS = [
    *("", '[[steps]]\nkind = "difference"'),
    '[[steps]]\nkind = "band_pass"\nhigh_hz = 5',
    '[[steps]]\nkind = "moving"\nwindow_s = 0.2',
]
SMOOTHINGS: list[tuple[Any, ...]] = [("none",), ("filter",), ("lag", 3, 20.0)]


class Bits:
    """The hash of each result by name, or the text of an error instead of a hash."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def of(self, name: str, compute: Any) -> Any:
        """Store the hash of the value of `compute`, or the error's text, and return the value."""
        try:
            value = compute()
        except Exception as error:
            self.found[name] = f"{type(error).__name__}: {error}"
            return None
        if value is not None:
            self.found[name] = value if isinstance(value, str) else digest(value)
        return value


def digest(value: Any) -> str:
    """Return a hash of plain values, or of an array together with its type and shape."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        text = f"{array.dtype.str} {array.shape} ".encode()
        held = array.tobytes() if array.dtype != object else repr(array.tolist()).encode()
        return hashlib.sha256(text + held).hexdigest()[:16]
    return hashlib.sha256(json.dumps(plain(value), default=repr).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return the values except those that differ from run to run."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in sorted(value.items()) if k not in LEFT_OUT}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return digest(value)
    return repr(float(value)) if isinstance(value, float | np.floating) else value


def of_bytes(path: Path) -> str:
    """Return a hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def drawn_settings() -> list[dict[str, Any]]:
    """Return forty settings that together contain every value of every option."""
    rng = np.random.default_rng(0)
    return [
        {name: values[(i + int(rng.integers(len(values)))) % len(values)]
         for name, values in OPTIONS.items()}
        for i in range(N_FITS)
    ]  # fmt: skip


def recordings() -> list[Any]:
    """Return the recordings of a few robots on a few surfaces."""
    from sensorseq.datasets import load_surfaces

    robots = [f"robot_{i:02}" for i in range(N_ROBOTS)]
    return [
        recording
        for recording in load_surfaces()
        if recording.label in SURFACES and recording.group in robots
    ]


def windows() -> tuple[Any, ...]:
    """Return every eighth window, with two channels, and the labels, groups and lengths."""
    from sensorseq import PreparePipeline

    made = PreparePipeline(window_s=2.5, hop_s=2.5, sample_rate_hz=20, random_state=0)
    cut = made.prepare(recordings())
    rows = np.arange(0, len(cut), 8)
    X = cut.X[rows]
    X = np.concatenate([X, np.diff(X, axis=1, prepend=X[:, :1])], axis=2)
    lengths = np.random.default_rng(1).integers(X.shape[1] // 2, X.shape[1] + 1, len(X))
    assert cut.y is not None
    assert cut.groups is not None
    return X, cut.y[rows], cut.groups[rows], lengths


def write_fits(bits: Bits, folder: Path) -> None:
    """Fit on arrays, predict, save and export."""
    from sensorseq import SensorLSTMClassifier

    X, y, groups, lengths = windows()

    def write_fit(i: int, settings: dict[str, Any]) -> None:
        clf = SensorLSTMClassifier(hidden_size=8, max_epochs=20, random_state=i, device="cpu")

        def fitted() -> Any:
            clf.set_params(**settings).fit(X, y, groups=groups, lengths=lengths)
            return clf.predict_proba(X, lengths)

        if bits.of(f"fit {i}", fitted) is None:
            return
        bits.of(f"fit {i} history", lambda: clf.history_.to_columns())
        bits.of(f"fit {i} report", lambda: report_of(clf.fluctuation_))
        for k, part in enumerate(clf.module_.parameters()):
            bits.of(f"fit {i} parameter {k}", part.detach().numpy)
        if i < N_MODELS:
            write_model(bits, clf, f"model {i}", folder / f"{i}.safetensors", (X, lengths))
        if i < N_SOURCES:
            write_exports(bits, clf, f"{i}", folder)

    for i, settings in enumerate(drawn_settings()):
        write_fit(i, settings)


def report_of(report: Any) -> Any:
    """Return the statements of a fluctuation report."""
    return [[statement.kind, dict(statement.values)] for statement in report.statements]


def write_model(bits: Bits, clf: Any, name: str, path: Path, inputs: tuple[Any, ...]) -> None:
    """Save a model, load it with torch and without, and store its arrays and header."""
    from safetensors import safe_open

    clf.save(path)
    bits.of(name, lambda: type(clf).load(path).predict_proba(*inputs))
    bits.of(f"{name} alone", lambda: loaded(path).predict_proba(*inputs))
    with safe_open(path, "numpy") as file:
        for array in sorted(file.keys()):
            bits.of(f"{name} array {array}", lambda array=array: file.get_tensor(array))
        for field, text in (file.metadata() or {}).items():
            value = json.loads(text) if text[:1] in "[{" else text
            if field not in LEFT_OUT:
                bits.of(f"{name} field {field}", lambda value=value: digest(value))


def write_exports(bits: Bits, clf: Any, name: str, folder: Path, **c_options: Any) -> None:
    """Write the C sources and the ONNX graph."""
    import onnx

    target = folder / f"c{name}"
    bits.of(f"c {name}", lambda: clf.to_c(target, **c_options) and None)
    for file in sorted(target.iterdir()) if target.is_dir() else ():
        bits.of(f"c {name} {file.name}", lambda file=file: of_bytes(file))
    graph = folder / f"{name}.onnx"
    bits.of(f"onnx {name}", lambda: clf.to_onnx(graph) and None)
    if graph.is_file():
        made = onnx.load(graph).graph
        bits.of(
            f"onnx {name} nodes",
            lambda: [element.SerializeToString().hex() for element in made.node],
        )
        bits.of(
            f"onnx {name} values",
            lambda: [element.SerializeToString().hex() for element in made.initializer],
        )


def write_files(bits: Bits, folder: Path) -> None:
    """Prepare the recordings in ten ways; train from the files, and stream recordings."""
    from sensorseq.cli import run

    for i, (steps, balance) in enumerate(itertools.product(STEPS, ("none", "undersample"))):
        config, output = folder / f"{i}.toml", folder / f"{i}.h5"
        window = f'[window]\nwindow_s = 2\nhop_s = 1\n[balance]\nstrategy = "{balance}"\n'
        config.write_text(f"{steps}\n{window}")
        code = run(["prepare", str(DATA), "--config", str(config), "-o", str(output), "-q"])
        bits.of(f"prepare {i}", lambda code=code: str(code))
        if code == 0:
            write_prepared(bits, f"prepare {i}", output)
    for i in (0, 4):
        write_trained(bits, f"{i}", folder / f"{i}.h5", folder)


def write_prepared(bits: Bits, name: str, path: Path) -> None:
    """Store the hashes of a prepared file's arrays."""
    import h5py

    def note(array: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and array != "record":
            bits.of(f"{name} {array}", lambda: np.asarray(item[()]))

    with h5py.File(path) as file:
        file.visititems(note)


def write_trained(bits: Bits, name: str, prepared: Path, folder: Path) -> None:
    """Fit on a prepared file, in memory and in blocks; use the model on recordings and streams."""
    from sensorseq import SensorLSTMClassifier
    from sensorseq.io.prepared import read_windows
    from sensorseq.sequence import Smoothing

    def made(**options: Any) -> Any:
        return SensorLSTMClassifier(
            hidden_size=8, max_epochs=5, random_state=0, device="cpu", **options
        ).fit(prepared)

    clf = made()
    bits.of(f"file {name}", lambda: clf.predict_proba(prepared))
    bits.of(f"file {name} history", lambda: clf.history_.to_columns())
    bits.of(f"file {name} report", lambda: report_of(clf.fluctuation_))
    os.environ["SENSORSEQ_BUFFER_BYTES"] = "500000"  # so that the network reads the file in blocks
    alone = made(features=None, dropout=0.0)
    bits.of(f"file {name} in blocks", lambda: alone.predict_proba(prepared))
    del os.environ["SENSORSEQ_BUFFER_BYTES"]
    path = folder / f"file_{name}.safetensors"
    clf.save(path)
    drives = recordings()[:3]
    bits.of(f"file {name} recordings", lambda: repr(clf.predict_recordings(read_windows(prepared))))
    bits.of(f"file {name} outside", lambda: repr(clf.outside(prepared)))
    for fields in SMOOTHINGS:
        kind, smooth = fields[0], Smoothing(*fields)
        for model, load in (("fitted", lambda: clf), ("alone", lambda: loaded(path))):
            bits.of(
                f"timeline {name} {kind} {model}",
                lambda load=load, smooth=smooth: repr(load().timeline(drives, smooth=smooth).spans),
            )
            bits.of(
                f"stream {name} {kind} {model}",
                lambda load=load, smooth=smooth: streamed(load(), drives[0], smooth),
            )
    write_exports(bits, clf, f"of file {name}", folder)


def loaded(path: Path) -> Any:
    """Return the model that runs without torch."""
    from sensorseq.prediction.loading import load

    return load(path)


def streamed(model: Any, drive: Any, smooth: Any) -> Any:
    """Push a recording through a stream in uneven chunks."""
    stream = model.stream(smooth=smooth)
    times_s, values = drive.timestamps_s, drive.values
    edges = [0, *range(7, len(times_s), 41), len(times_s)]
    decisions = [
        decision
        for a, b in itertools.pairwise(edges)
        for decision in stream.push(values[a:b], times_s[a:b])
    ]
    return repr([*decisions, *stream.flush()])


def write_sensors(bits: Bits, folder: Path) -> None:
    """Fit on two sensors with different rates, one of which is missing in some windows."""
    from sensorseq import SensorFusionClassifier, SensorLSTMClassifier

    X, y, groups, _ = windows()
    slow = X[:, ::3, :1].copy()
    slow[::9] = np.nan
    both = {"imu": X[:, :, 1:], "motor": slow}
    clf = SensorFusionClassifier(
        SensorLSTMClassifier(
            hidden_size=8, max_epochs=5, random_state=0, device="cpu", missing="expected"
        )
    )
    if bits.of("sensors", lambda: clf.fit(both, y, groups=groups).predict_proba(both)) is None:
        return
    bits.of("sensors compared", lambda: repr(clf.features_))
    write_model(bits, clf, "sensors model", folder / "sensors.safetensors", (both,))
    write_exports(bits, clf, "sensors", folder)


def write(folder: Path) -> None:
    """Write the hashes of all results."""
    import torch

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    bits = Bits()
    with tempfile.TemporaryDirectory() as scratch:
        for part in (write_files, write_fits, write_sensors):
            part(bits, Path(scratch))
    text = json.dumps(bits.found, indent=0).replace(scratch, "")
    (folder / "bits.json").write_text(text)
    errors = [name for name, text in bits.found.items() if "Error: " in text]
    print(f"{len(bits.found)} hashes in {folder}/bits.json, errors instead of hashes for: {errors}")


def compare(before: Path, after: Path) -> int:
    """Print the differences; return 1 if any difference is unexpected."""
    first, second = (json.loads((folder / "bits.json").read_text()) for folder in (before, after))
    apart = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    unexpected = 0
    for name in apart:
        why = next((text for p, text in EXPECTED.items() if fnmatch.fnmatchcase(name, p)), None)
        unexpected += why is None
        note = f" (expected: {why})" if why else ""
        print(f"{name}: {first.get(name, 'missing')} -> {second.get(name, 'missing')}{note}")
    print(f"{len(apart)} of {len({**first, **second})} differ, {unexpected} unexpectedly")
    return int(bool(unexpected))


if __name__ == "__main__":
    what, *folders = sys.argv[1:] or ["help"]
    if what == "write" and len(folders) == 1:
        write(Path(folders[0]))
    elif what == "compare" and len(folders) == 2:
        sys.exit(compare(*map(Path, folders)))
    else:
        sys.exit(__doc__)
