"""The code and the commands in docs/fluctuation.md run."""

import math
import re
import shlex
from pathlib import Path

import numpy as np
from commands import succeed, write_logs
from fits import learn_few_features, plain_classifier

from sensorseq.diagnosis.causes import SETTINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fluctuation.md"


def section(heading):
    page = PAGE.read_text("utf-8").partition(f"# {heading}\n")[2]
    return re.split(r"^##+ ", page, flags=re.M)[0]


def code_below(heading):
    return re.findall(r"```python\n(.*?)```", section(heading), re.S)


def test_a_bad_setting_is_named_and_compared_with_the_defaults(capsys, monkeypatch):
    learn_few_features(monkeypatch)
    rng = np.random.default_rng(0)
    y, groups = np.arange(60) % 2, np.arange(60) // 4
    phases = np.arange(40) * (0.2 + 0.4 * y[:, None]) + rng.uniform(0, 6, (60, 1))
    X = np.sin(phases)[:, :, None] + 0.1 * rng.normal(size=(60, 40, 1))
    clf = plain_classifier(learning_rate=1e-9, max_epochs=20, random_state=0)
    names = {"clf": clf.fit(X, y, groups=groups), "X": X, "y": y, "groups": groups}
    for heading in ("Which cause, and what to change", "Testing a cause"):
        for code in code_below(heading):
            exec(code, names)
    printed = capsys.readouterr().out
    assert "learning_rate is 1e-09, usually at least 0.001." in printed
    of_mine, of_defaults = (
        np.array(re.search(rf"^{name} \[(.*)\]", printed, re.M)[1].split(), float)
        for name in ("mine", "the defaults")
    )
    assert min(of_defaults - of_mine) > 0.2
    for seed in "01":
        mine, reset = (
            float(re.search(rf"^{seed} {name} (.*)", printed, re.M)[1])
            for name in ("mine", "reset")
        )
        assert reset > mine + 0.2


def test_the_table_of_ranges_has_every_setting_with_the_ends_of_its_range():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", section("Which cause, and what to change"), re.M)
    )
    assert set(rows) == {setting.cause for setting in SETTINGS}
    for setting in SETTINGS:
        assert f"`{setting.argument}`" in rows[setting.cause]
        for end in (setting.least, setting.most):
            assert not math.isfinite(end) or re.search(rf"\b{end:g}\b", rows[setting.cause])


def test_two_models_are_trained_and_evaluated_on_one_file(in_tmp_path, monkeypatch):
    learn_few_features(monkeypatch)
    succeed("prepare", write_logs(in_tmp_path / "logs"), "--window-s", 2, "-o", "windows.h5")
    lines = re.findall(r"^    sensorseq (.*)", section("Testing a cause"), re.M)
    assert len(lines) == 4
    quick = {"train": ("--set", "max_epochs=2"), "evaluate": ("--no-baselines",)}
    for name, *words in map(shlex.split, lines):
        printed = succeed(name, *words, *quick[name])
    assert "accuracy" in printed
