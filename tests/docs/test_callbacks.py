"""What docs/callbacks.md tells its reader to type works in the order of the page."""

from pathlib import Path

import pytest
from checkout import code_in, page_of

PAGE = page_of("callbacks.md")


def test_the_page_can_be_typed_from_top_to_bottom(in_tmp_path, capsys):
    for library in ("pandas", "matplotlib", "tensorboard"):
        pytest.importorskip(library)
    pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")
    names = {}
    for block in code_in(PAGE):
        exec(block, names)
    written = {path.name for path in in_tmp_path.iterdir()}
    assert written == {"history.json", "history.png", "runs"}
    assert [path.name for path in Path("runs").iterdir()] == ["fit_1"]
    columns = set(names["clf"].history_.names)
    text = PAGE
    assert all(f"`{name}`" in text for name in columns)
    assert "at most 20 epochs" in capsys.readouterr().out
