"""Every block of docs/scikit_learn.md runs, one after another, without a warning."""

from pathlib import Path

import pytest
import sklearn
from checkout import code_in

pytest.importorskip("optuna")
pytest.importorskip("skops")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scikit_learn.md"


@pytest.mark.long
def test_the_page_runs_unchanged():
    blocks = code_in(PAGE.read_text("utf-8"))
    assert len(blocks) >= 9
    names = {}
    # the page changes scikit-learn's configuration, which is restored afterwards
    with sklearn.config_context():
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    assert names["search"].best_params_["learning_rate"] in (1e-3, 1e-2)
    assert set(names["taken"].classes_) == {"ice", "mud", "sand"}
    assert (PAGE.parents[1] / "examples" / "optuna_search.py").is_file()
