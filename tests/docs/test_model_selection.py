"""Every block of docs/model_selection.md runs, one after another, without a warning."""

from pathlib import Path

import numpy as np
import pytest
from checkout import code_in

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model_selection.md"


@pytest.mark.long
def test_the_page_runs_unchanged():
    names = {}
    for block in code_in(PAGE.read_text("utf-8")):
        exec(compile(block, str(PAGE), "exec"), names)
    assert np.shape(names["scores"]) == (3, 3)
    assert len(names["search"].cv_results_["params"]) == 4
