"""Holds streams of drawn models and signals against the laws of tests/support/stream_laws.py."""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from stream_laws import check_model  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    options = parser.parse_args()
    ends, seed, wrong = time.monotonic() + options.seconds, options.seed, []
    while time.monotonic() < ends:
        wrong += check_model(seed)
        seed += 1
    summary = {"trials": seed - options.seed, "failures": len(wrong), "what": wrong[:9]}
    print(json.dumps(summary))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
