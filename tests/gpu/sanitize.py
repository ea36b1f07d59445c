"""Every variant once, forward and backward, on small sizes: a program for compute-sanitizer.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \\
        --kernel-regex kns=sensorseq --error-exitcode 9 python tests/gpu/sanitize.py

Without torch's caching, a write beyond a tensor is a write beyond its allocation. With `--device
cpu` it only shows that it runs.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from layer_laws import PRECISIONS, VARIANTS, Problem, dtype_of, torch_precision  # noqa: E402

from sensorseq import ops  # noqa: E402


def main():
    """Run what was asked for; 1 if a result is not finite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--n-windows", type=int, default=9, help="two tiles, the second short")
    parser.add_argument("--n-timesteps", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first variants")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: this needs a GPU, and torch sees none", file=sys.stderr)
        return 4
    sizes = {"n_windows": options.n_windows, "n_timesteps": options.n_timesteps}
    variants = list(dict.fromkeys(replace(variant, **sizes) for variant in VARIANTS))
    n_done = n_wrong = 0
    for variant in variants[: options.limit]:
        for precision in PRECISIONS[: 2 if options.device == "cpu" else None]:
            for head in (True, False):
                with torch_precision(precision):
                    found = Problem(variant).run(
                        ops.lstm_linear if head else ops.lstm,
                        options.device,
                        dtype_of(precision),
                        head,
                    )
                wrong = [name for name, value in found.items() if not value.isfinite().all()]
                n_done, n_wrong = n_done + 1, n_wrong + bool(wrong)
                if wrong:
                    print(f"not finite: {variant}, {precision}: {', '.join(wrong)}")
    print(f"{n_done} calls forward and backward on {options.device}, {n_wrong} not finite")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
