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


def main(report: str, allowed_file: str) -> int:
    """Read a JUnit report and the file with the number of skips that are allowed."""
    reasons = collections.Counter(
        skipped.get("message", "no reason")
        for skipped in ElementTree.parse(report).iter("skipped")
        if skipped.get("type") == "pytest.skip"
    )
    allowed = int(Path(allowed_file).read_text().split()[0])
    n_skipped = sum(
        n for reason, n in reasons.items() if not any(lack in reason for lack in OF_THE_MACHINE)
    )
    print(f"{n_skipped} tests skipped beside what this machine lacks, {allowed} allowed")
    for reason, count in reasons.most_common():
        print(f"  {count} x {reason}")
    if n_skipped > allowed:
        print("more tests are skipped than known: make them run, or raise .ci/allowed_skips")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
