"""What docs/input_files.md shows of DataFrames runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "input_files.md"


def test_the_example_of_the_page_runs():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    known = {}
    exec(block, known)
    assert known["clf"].feature_names_in_.tolist() == ["current", "gyro"]
