"""The folder of BorealTC's real recordings; without this folder, tests that need it are skipped."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOREALTC = Path(os.environ.get("SENSORSEQ_BOREALTC", ROOT.parent / "shared" / "data" / "borealtc"))
needs_borealtc = pytest.mark.skipif(
    not (BOREALTC / "SNOW" / "pro_12.csv").is_file(),
    reason=f"BorealTC is not in {BOREALTC}; set SENSORSEQ_BOREALTC to its folder",
)
