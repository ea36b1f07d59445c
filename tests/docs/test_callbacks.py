"""What docs/callbacks.md tells its reader to type works in the order of the page."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "callbacks.md"


def test_the_page_can_be_typed_from_top_to_bottom(in_tmp_path, capsys):
    for library in ("pandas", "matplotlib", "tensorboard"):
        pytest.importorskip(library)
    pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S):
        exec(block, names)
    written = {path.name for path in in_tmp_path.iterdir()}
    assert written == {"history.json", "history.png", "runs"}
    assert [path.name for path in Path("runs").iterdir()] == ["fit_1"]
    columns = set(names["clf"].history_.names)
    text = PAGE.read_text("utf-8")
    assert all(f"`{name}`" in text for name in columns)
    assert "at most 20 epochs" in capsys.readouterr().out
