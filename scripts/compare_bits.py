"""Do two states of the package compute the same bits? For changes that only move code.

    compare_bits.py write FOLDER     # with the package that is imported: forty fits, ten files, ...
    compare_bits.py compare ONE TWO  # what differs between two such folders

Write one folder with each commit (`PYTHONPATH=CHECKOUT python scripts/compare_bits.py write ...`,
the extensions built), on one machine: bits differ by processor. Timings and versions are left out.
"""

import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

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
    "lr_schedule": ["cosine", "constant", "one_cycle", "plateau"],
    "pooling": ["meanmax", "last", "mean", "max"],
    "loss": ["cross_entropy", "focal", "mse"],
    "scale": ["standard", "robust", None, "min_max"],
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
STEPS = [
    *("", '[[steps]]\nkind = "spectral"\nframe_s = 1.0', '[[steps]]\nkind = "difference"'),
    '[[steps]]\nkind = "band_pass"\nhigh_hz = 5',
    '[[steps]]\nkind = "moving"\nwindow_s = 0.2',
]


def digest(value: Any) -> str:
    """Return a hash of an array with its type and shape, or of plain values."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        text = f"{array.dtype.str} {array.shape} ".encode()
        held = array.tobytes() if array.dtype != object else repr(array.tolist()).encode()
        return hashlib.sha256(text + held).hexdigest()[:16]
    return hashlib.sha256(json.dumps(plain(value), default=repr).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return values without what differs from run to run."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in sorted(value.items()) if k not in LEFT_OUT}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return repr(float(value)) if isinstance(value, float | np.floating) else value


def drawn_settings() -> list[dict[str, Any]]:
    """Return forty settings; each value of each option is among them."""
    rng = np.random.default_rng(0)
    return [
        {name: values[(i + int(rng.integers(len(values)))) % len(values)]
         for name, values in OPTIONS.items()}
        for i in range(N_FITS)
    ]  # fmt: skip


def windows() -> tuple[Any, ...]:
    """Return windows of three classes, of different lengths, with groups."""
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3
    t = np.arange(40)
    X = np.sin(t * (0.2 + 0.2 * y[:, None]) + rng.uniform(0, 6, (90, 1)))[:, :, None]
    X = (X + 0.3 * rng.normal(size=(90, 40, 2))).astype(np.float32)
    return X, np.array(["a", "b", "c"])[y], np.arange(90) // 6, rng.integers(20, 41, 90)


def write_fits(found: dict[str, str], folder: Path) -> None:
    """Fit, predict, save and export."""
    from sensorseq import SensorLSTMClassifier

    X, y, groups, lengths = windows()
    for i, settings in enumerate(drawn_settings()):
        clf = SensorLSTMClassifier(hidden_size=8, max_epochs=20, random_state=i, device="cpu")
        name = f"fit {i}"
        try:
            clf.set_params(**settings).fit(X, y, groups=groups, lengths=lengths)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            continue
        found[name] = digest(clf.predict_proba(X, lengths))
        found[f"{name} history"] = digest(clf.history_.to_columns())
        found[f"{name} report"] = digest(
            [[one.kind, dict(one.values)] for one in clf.fluctuation_.statements]
        )
        for k, part in enumerate(clf.module_.parameters()):
            found[f"{name} parameter {k}"] = digest(part.detach().numpy())
        if i < N_MODELS:
            clf.save(folder / f"{i}.safetensors")
            again = SensorLSTMClassifier.load(folder / f"{i}.safetensors")
            found[f"model {i}"] = digest(again.predict_proba(X, lengths))
            found |= {f"model {i} {k}": v for k, v in of_safetensors(folder / f"{i}.safetensors")}
        if i < N_SOURCES:
            try:
                clf.to_c(folder / f"c{i}", n_timesteps=40)
            except Exception as error:
                found[f"c {i}"] = f"{type(error).__name__}: {error}"
                continue
            for file in sorted((folder / f"c{i}").iterdir()):
                found[f"c {i} {file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def of_safetensors(path: Path) -> list[tuple[str, str]]:
    """Return the arrays and the fields of the header of a model file."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        fields = {
            key: json.loads(text) if text[:1] in "[{" else text
                  for key, text in (file.metadata() or {}).items()}  # fmt: skip
        arrays = [(name, digest(file.get_tensor(name))) for name in sorted(file.keys())]
    kept = {name: value for name, value in fields.items() if name not in LEFT_OUT}
    return [*arrays, *((f"field {name}", digest(value)) for name, value in kept.items())]


def write_files(found: dict[str, str], folder: Path) -> None:
    """Prepare simulated recordings in ten ways."""
    from sensorseq.cli import run

    recordings = folder / "recordings"
    assert run(["simulate", str(recordings), "--duration-s", "12", "--json"]) == 0
    for path in sorted(recordings.rglob("*.csv*")):
        found[path.relative_to(folder).as_posix()] = digest(path.read_bytes().hex())
    for i, (steps, balance) in enumerate(itertools.product(STEPS, ("none", "undersample"))):
        config, output = folder / f"{i}.toml", folder / f"{i}.h5"
        window = f'[window]\nwindow_s = 2\nhop_s = 1\n[balance]\nstrategy = "{balance}"\n'
        config.write_text(f"{steps}\n{window}")
        code = run(["prepare", str(recordings), "--config", str(config), "-o", str(output), "-q"])
        found[f"prepare {i}"] = str(code)
        if code == 0:
            found |= {f"prepare {i} {name}": bits for name, bits in of_hdf5(output)}


def of_hdf5(path: Path) -> list[tuple[str, str]]:
    """Return the arrays of a prepared file."""
    import h5py

    found: list[tuple[str, str]] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, one: (
                found.append((name, digest(np.asarray(one[()]))))
                if isinstance(one, h5py.Dataset) and name != "record"
                else None
            )
        )
    return found


def write(folder: Path) -> None:
    """Write the hashes of everything."""
    import torch

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_files(found, Path(scratch))
        write_fits(found, Path(scratch))
    (folder / "bits.json").write_text(json.dumps(found, indent=0))
    print(f"{len(found)} hashes in {folder}/bits.json")


def compare(one: Path, two: Path) -> int:
    """Print what differs."""
    first, second = (json.loads((folder / "bits.json").read_text()) for folder in (one, two))
    apart = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    for name in apart:
        print(f"{name}: {first.get(name, 'missing')} -> {second.get(name, 'missing')}")
    print(f"{len(apart)} of {len({**first, **second})} differ")
    return int(bool(apart))


if __name__ == "__main__":
    what, *folders = sys.argv[1:] or ["help"]
    if what == "write" and len(folders) == 1:
        write(Path(folders[0]))
    elif what == "compare" and len(folders) == 2:
        sys.exit(compare(*map(Path, folders)))
    else:
        sys.exit(__doc__)
