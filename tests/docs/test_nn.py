"""Every block of docs/nn.md runs, one after another, and does what the page says of it."""

from pathlib import Path

import torch
from checkout import code_in

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nn.md"


def test_the_page_runs_as_it_stands():
    torch.manual_seed(0)
    names = {}
    blocks = code_in(PAGE.read_text("utf-8"))
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["module"](names["x"]).shape == (8, 5)
    torch.testing.assert_close(names["logits"].reshape(5), names["module"](names["x"][:1])[0])
    (found,) = names["find_lstms"](names["model"])
    assert f"[{found}]" in blocks[-1]
    assert names["model"](names["x"]).shape == (8, 100, 5)
