"""Compare our speed with cuDNN's for the same step in the same precision.

A step is timed when called from Python (``"eager"``) and when captured in a CUDA graph
(``"graph"``). Our step and cuDNN's are timed alternately in one process, after a check that their
results agree. Without a GPU, this module can be tested by comparing our step with torch's CPU code.
"""

import copy
import subprocess
from collections.abc import Sequence
from typing import Any

import torch
from common import timing
from common.timing import (
    Call,
    Precision,
    Problem,
    Shape,
    alternate,
    repeated,
    summarize,
    synchronize,
)
from torch import Tensor

from sensorseq.errors import EnvironmentProblemError
from sensorseq.ops.choice import allowing_tf32, choose_here

KINDS = ("training", "inference", "varlen training", "varlen inference")
MODES = ("eager", "graph")

PRECISIONS = {
    "fp32": Precision(torch.float32, False, 1e-4),
    "tf32": Precision(torch.float32, True, 1e-2),
    "fp16": Precision(torch.float16, True, 1e-2),
    "bf16": Precision(torch.bfloat16, True, 5e-2),
    # cuDNN's PERSIST_STATIC needs fp16, and C and H must be multiples of 128. It is used only from
    # H = 256 on, because torch prefers PERSIST_STATIC_SMALL_H for smaller H.
    "fp16, C padded to 128": Precision(torch.float16, True, 1e-2, n_padded=128),
}


def current_gpu() -> torch.device:
    """Return the current GPU.

    An `EnvironmentProblemError` is raised if torch is built without CUDA or finds no GPU.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    reason = "finds none" if torch.version.cuda else "is built without CUDA"
    raise EnvironmentProblemError(
        f"a comparison with cuDNN needs an NVIDIA GPU, but torch {torch.__version__} {reason}. To"
        " compare on the CPU, run `python benchmarks/bench_cpu.py`."
    )


def why_framework(device: torch.device, shape: Shape, precision: Precision) -> str:
    """Return the reason why torch's own LSTM would run this shape; empty if our kernels would."""
    if device.type != "cuda":
        return ""
    with allowing_tf32(precision.allows_tf32):
        choice = choose_here(
            device,
            precision.dtype,
            hidden_size=shape.hidden_size,
            n_channels=shape.n_channels,
        )
    return "" if choice.served_by == "native" else str(choice.reason)


def relative_errors(results: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    """Return the relative L2 error of the logits and, if present, of all gradients together."""
    groups = [(list(results[:1]), list(exact[:1]))]
    if len(exact) > 1:
        # padded channels have no counterpart in the exact gradients
        cut = [
            r[:, : e.shape[1]] if r.dim() == 2 else r for r, e in zip(results, exact, strict=True)
        ]
        groups.append((cut[1:], list(exact[1:])))
    errors = []
    for group in groups:
        a, b = (torch.cat([t.detach().double().reshape(-1) for t in side]) for side in group)
        errors.append(float((a - b).norm() / b.norm()))
    return errors


def compare(problem: Problem, kind: str) -> dict[str, Any]:
    """Return both sides' errors against IEEE float32; raise an error if our error is too large."""
    with allowing_tf32(False):
        reference = copy.copy(problem)
        reference.lstm, reference.linear = problem.their_layers(torch.float32)
        reference.their_x = problem.x.float()
        exact = reference.theirs(kind)()
    theirs, ours = (
        relative_errors(side(), exact) for side in (problem.theirs(kind), problem.ours(kind))
    )
    allowed = problem.precision.tolerance
    if not all(error <= allowed for error in ours):  # also true if an error is NaN
        raise EnvironmentProblemError(
            f"the {kind} results for {problem.shape} in {problem.precision.dtype} differ from"
            f" float32 by {max(ours):.1g}, and torch's results by {max(theirs):.1g}; the precision"
            f" explains at most {allowed:.0e} (seed {problem.seed}). Timings would be meaningless."
            " Please report this with the output of `sensorseq info`."
        )
    return {"theirs_error": theirs, "ours_error": ours}


def captured(call: Call, device: torch.device) -> Call:
    """Capture a step in a CUDA graph, and return a function that replays it and returns results."""
    if device.type != "cuda":
        return call
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> list[Tensor]:
        graph.replay()
        return results

    return replay


def measure(
    kind: str,
    shape: Shape,
    precision: str,
    device: torch.device,
    *,
    modes: Sequence[str] = MODES,
    rounds: int = 9,
    budget_s: float = 2.0,
    at_least_s: float = 15e-3,
) -> list[dict[str, Any]]:
    """Check that both sides agree, then time both in each mode; return one row per mode.

    `ratio` is above 1 if our side is faster. If torch's own LSTM would run the shape, nothing is
    timed, `ratio` is 1, and `reason` says why. If one side cannot run in a mode, `ratio` is None,
    and `reason` says why.
    """
    chosen = PRECISIONS[precision]
    same: dict[str, Any] = {"what": kind, "precision": precision, "shape": list(shape)}
    reason = why_framework(device, shape, chosen)
    if reason:
        untimed = {**same, "served_by": "framework", "reason": reason, "ratio": 1.0}
        return [{**untimed, "mode": mode} for mode in modes]
    rows: list[dict[str, Any]] = []
    with allowing_tf32(chosen.allows_tf32):
        problem = Problem(shape, chosen, device, uniform_lengths=kind.startswith("varlen"))
        same |= {"served_by": "native", "seed": problem.seed, **compare(problem, kind)}
        for mode in modes:
            row = {**same, "mode": mode}
            theirs, ours = problem.theirs(kind), problem.ours(kind)
            if mode == "graph":
                if problem.lengths is not None:
                    reason = "packing synchronizes with the CPU, so it cannot be captured"
                    rows.append({**row, "ratio": None, "reason": reason})
                    continue
                theirs, ours = (captured(call, device) for call in (theirs, ours))
                _compare_replay(problem, kind, ours)
            times = alternate(
                repeated(theirs, device),
                repeated(ours, device),
                rounds=rounds,
                budget_s=budget_s,
                at_least_s=at_least_s,
            )
            rows.append({**row, **summarize(times[0], times[1])})
    return rows


def _compare_replay(problem: Problem, kind: str, replay: Call) -> None:
    replayed, eager = replay(), problem.ours(kind)()
    synchronize(problem.device)
    if not all(torch.equal(a, b) for a, b in zip(replayed, eager, strict=True)):
        raise EnvironmentProblemError(
            f"the {kind} step for {problem.shape} gives different bits with and without a CUDA"
            f" graph (seed {problem.seed}). Please report this with the output of `sensorseq info`."
        )


def environment() -> dict[str, Any]:
    """Describe the GPU, driver, versions and processor without identifying the machine."""
    facts = timing.environment() | {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "device": properties.name,
            "n_multiprocessors": properties.multi_processor_count,
            "driver": _driver_version(),
        }
    return facts


def _driver_version() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().split("\n")[0] or None


HEADER = f"{'':44}  {'NxTxCxH':14}  cuDNN ms   ours ms   ratio  [spread]"


def format_row(row: dict[str, Any]) -> str:
    """Format one row as a line."""
    name = f"{row['what']}, {row['precision']}, {row['mode']}"
    start = f"{name:44}  {Shape(*row['shape'])!s:14}"
    if "ours_ms" not in row:
        outcome = "1 (framework)" if row["served_by"] == "framework" else "not timed"
        return f"{start}  {outcome}: {row['reason']}"
    spread = f"[{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]"
    return f"{start}  {row['theirs_ms']:8.4f}  {row['ours_ms']:8.4f}  {row['ratio']:5.2f}x {spread}"
