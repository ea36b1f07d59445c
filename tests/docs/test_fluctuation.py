"""The code in docs/fluctuation.md runs."""

import re
from pathlib import Path

import numpy as np
from fits import plain_classifier

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fluctuation.md"


def code_below(heading):
    section = re.split(r"^##+ ", PAGE.read_text("utf-8").partition(f"# {heading}\n")[2], flags=re.M)
    return re.findall(r"```python\n(.*?)```", section[0], re.S)


def test_a_bad_fit_is_repaired_by_its_code(in_tmp_path, capsys):
    rng = np.random.default_rng(0)
    y, groups = np.arange(120) % 2, np.arange(120) // 6
    phases = np.arange(40) * (0.2 + 0.4 * y[:, None]) + rng.uniform(0, 6, (120, 1))
    X = np.sin(phases)[:, :, None] + 0.1 * rng.normal(size=(120, 40, 1))
    clf = plain_classifier(learning_rate=1e-9, max_epochs=20, random_state=0)
    clf.fit(X, y, groups=groups)
    names = {"clf": clf, "X": X, "y": y, "groups": groups}
    for code in code_below("Which cause, and what to change") + code_below(
        "Testing causes with probe"
    ):
        exec(code, names)
    printed = capsys.readouterr().out
    assert "learning_rate is 1e-09, usually 0.001 to 0.01." in printed
    assert "FLUCTUATION REPORT" in printed
    assert Path("report.html").exists()
    assert names["better"].score(X, y) > clf.score(X, y) + 0.3
