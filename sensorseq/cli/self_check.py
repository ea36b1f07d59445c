"""`sensorseq doctor --self`: check that this installation computes correctly."""

import functools
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_NEEDED = {
    "x86_64": {"avx512": {"avx512f", "avx512dq"}, "avx2": {"avx2", "fma"}},
    "aarch64": {"neon": {"asimd"}},
}
# maximum relative differences that pass
_FORWARD, _GRADIENT, _SIGNAL, _PRODUCT = 1e-5, 1e-4, 1e-12, 1e-5


class CheckResult(NamedTuple):
    """The result of one check: ``"passed"`` or ``"failed"``, and what was found."""

    name: str
    status: str
    finding: str


def check_installation() -> list[CheckResult]:
    """Run all checks; a check that raises an error has failed, and the other checks still run."""
    return [_run(name, check) for name, check in CHECKS.items()]


def _run(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, "passed", check())
    except Exception as error:  # any exception means that the check has failed
        message = " ".join(str(error).split())
        return CheckResult(name, "failed", f"{type(error).__name__}: {message}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _check_library() -> str:
    """Check that the core loads and offers the fastest instruction set of the processor."""
    import torch

    from sensorseq.ops import _extension

    isas, cpuinfo = _extension.cpu_isas(), Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text("ascii", "replace").split()) if cpuinfo.exists() else set()
    # only instruction sets of this architecture, because an emulator shows the flags of its host
    flags_of = _NEEDED.get(platform.machine(), {})
    best = next((name for name, needed in flags_of.items() if needed <= flags), isas[0])
    _require(best in isas, f"the processor has {best}, but the core offers only {', '.join(isas)}")
    cuda = _extension.cuda_facts()
    built = f"CUDA for {cuda['arch']}" if cuda["built"] else "no CUDA"
    return (
        f"{_extension.load().name} runs {_extension.cpu_isa()}, {built}, torch {torch.__version__}"
    )


def _check_products() -> str:
    """Check matrix products of numpy's and scipy's BLAS, whose code depends on the processor."""
    from scipy.linalg import get_blas_funcs

    a = np.random.default_rng(0).standard_normal((200, 64))
    exact, words = np.einsum("ik,jk->ij", a, a), []
    for dtype, (gemm,) in (
        (t, get_blas_funcs(["gemm"], dtype=t)) for t in (np.float32, np.float64)
    ):
        b: Any = a.astype(dtype)
        worst = max(_relative(product, exact) for product in (b @ b.T, gemm(1, b, b, trans_b=True)))
        words.append(f"{np.dtype(dtype)} by {worst:.0e}")
        _require(
            worst <= _PRODUCT,
            f"numpy's or scipy's products of {np.dtype(dtype)} are wrong by {worst:.0e} (relative)"
            f" on this {platform.machine()} processor: install other versions of numpy and scipy,"
            " or set OPENBLAS_CORETYPE to an older processor, such as ARMV8 or HASWELL",
        )
    return f"results differ from exact products in {', in '.join(words)} (relative)"


def _check_lstm() -> str:
    """Compare the float32 kernel, forward and backward, with plain torch in float64."""
    import torch

    from sensorseq.ops import lstm_linear, reference

    draw = torch.Generator().manual_seed(0)
    n_windows, n_timesteps, n_channels, hidden, n_classes = 7, 33, 3, 21, 4
    shapes = {
        "x": (1, n_windows, n_timesteps, n_channels),
        "weight_ih": (1, 2, 4 * hidden, n_channels),
        "weight_hh": (1, 2, 4 * hidden, hidden),
        "bias": (1, 2, 4 * hidden),
        "weight_out": (1, n_classes, 4 * hidden),
        "bias_out": (1, n_classes),
    }
    drawn: dict[str, Any] = {
        name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()
    }
    options: dict[str, Any] = {"pooling": "meanmax"}
    options["lengths"] = torch.randint(1, n_timesteps + 1, (n_windows,), generator=draw)
    ours: dict[str, Any] = {name: value.clone().requires_grad_() for name, value in drawn.items()}
    exact = {name: value.double().requires_grad_() for name, value in drawn.items()}
    logits, expected = lstm_linear(**ours, **options)[0], reference.lstm_linear(**exact, **options)
    forward = _relative(logits.detach().numpy(), expected[0].detach().numpy())
    logits.square().sum().backward()
    expected[0].square().sum().backward()
    pairs = [(ours[name].grad, exact[name].grad) for name in shapes]
    gradient = max(
        _relative(a.numpy(), b.numpy()) for a, b in pairs if a is not None and b is not None
    )
    words = f"outputs differ from float64 by {forward:.0e}, gradients by {gradient:.0e} (relative)"
    _require(forward <= _FORWARD and gradient <= _GRADIENT, words)
    return words


def _relative(result: Any, exact: Any) -> float:
    return float(np.linalg.norm(result - exact) / np.linalg.norm(exact))


def _check_signal() -> str:
    """Compare the filter, the moving mean, statistics and CSV numbers with numpy in float64."""
    from sensorseq import _signal

    rng = np.random.default_rng(0)
    x, taps = rng.standard_normal((101, 2)), rng.standard_normal(9)
    read = _signal.read_numbers(
        "".join(f"{a!r},{b!r}\n" for a, b in x.tolist()).encode(), 0, [True, True]
    )
    _require(read is not None and np.array_equal(read, x.T), "CSV numbers are not read exactly")
    padded = np.concatenate([np.repeat(x[:1], 4, 0), x, np.repeat(x[-1:], 4, 0)])
    windows = [x[max(0, t - 4) : t + 1].mean(0) for t in range(len(x))]
    fir, moving = _signal.PolyphaseFilter(taps, 1, 3, 2, "hold"), _signal.MovingWindow("mean", 5, 2)
    moments = _signal.Moments(2)
    moments.add(x[None])
    pairs = {
        "filter": (fir.push_last(x), [np.convolve(c, taps, "valid")[::3] for c in padded.T]),
        "moving mean": (np.concatenate([moving.push(x), moving.flush()]), np.transpose(windows)),
        "mean": (moments.summarize()[1], x.mean(0)),
    }
    differences = {
        name: _relative(a, np.transpose(np.asarray(b))) for name, (a, b) in pairs.items()
    }
    worst = max(differences, key=differences.__getitem__)
    words = f"the {worst} differs from numpy by {differences[worst]:.0e} (relative)"
    _require(differences[worst] <= _SIGNAL, words)
    return f"{words}, the other results by less; CSV numbers are read exactly"


@functools.cache
def _fit() -> tuple[Any, Any]:
    """Train a small classifier on two simulated surfaces; return the classifier and its windows."""
    from sensorseq.datasets import load_surfaces
    from sensorseq.estimator import SensorLSTMClassifier
    from sensorseq.preprocessing import PreparePipeline

    recordings = [r for r in load_surfaces() if r.label in ("ice", "sand")]
    windows = PreparePipeline(window_s=5.0, sample_rate_hz=20.0).prepare(recordings)
    clf = SensorLSTMClassifier(hidden_size=16, max_epochs=5, refit=None, random_state=0)
    return clf.fit(windows), windows


def _check_training() -> str:
    clf, windows = _fit()
    test = windows.part("test")
    accuracy = clf.score(test)
    _require(accuracy > 0.9, f"the accuracy is {accuracy:.2f}; usually, it is 1.00")
    return (
        f"fit on {len(windows.part('train'))} windows, accuracy {accuracy:.2f} on {len(test)} test"
        " windows"
    )


def _check_files() -> str:
    """Check that a loaded model predicts bit-identical probabilities; write a report."""
    clf, windows = _fit()
    X = windows.part("test").X
    with tempfile.TemporaryDirectory() as folder:
        model, page = Path(folder) / "model.safetensors", Path(folder) / "report.html"
        clf.save(model)
        again = type(clf).load(model)
        clf.fluctuation_.to_html(page)
        _require(page.stat().st_size > 10_000, "the report is empty")
    same = np.array_equal(clf.predict_proba(X), again.predict_proba(X))
    _require(same, "the loaded model and the saved model predict different probabilities")
    return "the loaded model predicts bit-identical probabilities; the report was written"


CHECKS = {
    "native library": _check_library,
    "matrix products": _check_products,
    "LSTM kernels": _check_lstm,
    "preprocessing": _check_signal,
    "training": _check_training,
    "save and load": _check_files,
}


def format_results(results: list[CheckResult]) -> str:
    """Return one line for each check."""
    return "\n".join(f"{r.status:<6}  {r.name:<15}  {r.finding}" for r in results)
