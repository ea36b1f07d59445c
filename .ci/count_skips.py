"""Print how many tests were skipped and why; fail if more were skipped than are allowed."""

import collections
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# Reasons for skips that no installation can remove, because the machine lacks something. Such skips
# are printed, but not counted.
OF_THE_MACHINE = (
    "AVX512_BF16",
    "no nvcc",
    "needs a GPU",
    "needs two GPUs",
    "needs Chromium",
    "needs clang",
    "needs arm-",
    "needs qemu-arm",
    "no file system can be mounted here",
)


REMEMBERED = "passed at this digest on"  # tests/support/remembered.py


def main(report: str, allowed_file: str) -> int:
    """Read a JUnit report and the file with the number of skips that are allowed."""
    reasons = collections.Counter(
        skipped.get("message", "no reason")
        for skipped in ElementTree.parse(report).iter("skipped")
        if skipped.get("type") == "pytest.skip"
    )
    allowed = int(Path(allowed_file).read_text().split()[0])
    n_remembered = sum(n for reason, n in reasons.items() if REMEMBERED in reason)
    n_skipped = sum(
        n
        for reason, n in reasons.items()
        if not any(known in reason for known in (*OF_THE_MACHINE, REMEMBERED))
    )
    print(f"{n_skipped} tests skipped beside what this machine lacks, {allowed} allowed")
    print(f"{n_remembered} tests not run again, because they passed and nothing they use changed")
    for reason, count in reasons.most_common():
        print(f"  {count} x {reason}")
    if n_skipped > allowed:
        print("more tests are skipped than known: make them run, or raise .ci/allowed_skips")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
