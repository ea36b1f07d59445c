"""Each recipe of docs/development.md gives a working result with the stated number of files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# file of the package: (existing line, lines to add after it), or the text of a new file
ADDED = {
    "option": {
        "preprocessing/options.py": [
            (
                "    train_hop_s: float | None = option_field(\n"
                '        "window", metavar="S", help="Time between starts of training windows'
                ' [default: hop-s]."\n    )\n',
                '    taper_s: float | None = option_field("window", help="Fade both ends.")\n',
            ),
            (
                "        validation and test windows; `hop_s` by default.\n",
                "    taper_s : float, optional\n        Seconds at both ends to fade.\n",
            ),
            ("    train_hop_s: float | None\n", "    taper_s: float | None\n"),
        ]
    },
    "option of readers": {
        "options.py": [
            (
                'option_field("input", toml=dict[str, str])\n',
                '    invert: bool | None = option_field("input", toml=bool, help="Turn signs.")\n',
            ),
            (
                "        overrides a unit stored in the file. Some steps select channels by"
                " unit.\n",
                "    invert : bool, optional\n        Change the signs of all values.\n",
            ),
            ("    units: Mapping[str, str] | None\n", "    invert: bool | None\n"),
        ],
        "readers/source.py": (
            "    recording = from_origin(parts[0], 0) if source.is_sensor else parts[0]\n",
            """    if options.invert:
        recording = replace(recording, values=-recording.values)
""",
        ),
    },
    "step": {
        "preprocessing/steps/products.py": (
            "",
            '''

@dataclass(frozen=True)
class Sum(_Combined):
    """The sum of two channels."""

    kind: ClassVar[str] = "sum"
    default_name: ClassVar[str] = "{left}_plus_{right}"

    left: str
    right: str
    name: str | None = None
    keep: bool = True

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        return common_unit(inputs, "a sum"), lambda samples: samples.sum(axis=1)
''',
        ),
        "preprocessing/steps/chain.py": [
            (
                "from sensorseq.preprocessing.steps.products import Magnitude, Power, Product,"
                " SignedBy, Subtract\n",
                "from sensorseq.preprocessing.steps.products import Sum\n",
            ),
            ("        Subtract,\n", "        Sum,\n"),
        ],
    },
    "argument": {
        "estimator/classifier.py": (
            "        forget_bias: float = 1.0,\n",
            "        head_gain: float = 1.0,\n",
        ),
        "diagnosis/defaults.py": ('    "forget_bias": 1.0,\n', '    "head_gain": 1.0,\n'),
        "training/config.py": [
            ("    weight_decay: float = 0.0\n", "    head_gain: float = 1.0\n"),
            (
                '        check_integer("patience", self.patience, 1)\n',
                '        check_real("head_gain", self.head_gain, 0.0)\n',
            ),
        ],
    },
    "cause": {
        "diagnosis/causes.py": [
            (
                "SETTINGS = (\n",
                """    Setting(
        argument="patch", cause="window_overlap", advice="Cut windows with a longer hop.", most=50
    ),
""",
            ),
        ]
    },
    "member": {
        "prediction/members/means.py": '''"""MeansMember: the class with the nearest mean window."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorseq.prediction.members.member import check_sizes, in_blocks


@dataclass(frozen=True, eq=False)
class MeansMember:
    center: Any  # (K, c), the mean of each class

    def logits(self, X, lengths):
        return in_blocks(self._logits, X, lengths, len(self.center))

    def _logits(self, X, lengths):
        return -((means_of(X, lengths)[:, None] - self.center) ** 2).sum(axis=2)

    def state(self):
        return {}, {"center": self.center}

    @classmethod
    def restore(cls, settings, arrays):
        return cls(arrays["center"])

    def check(self, n_channels, n_outputs):
        check_sizes(self.center.shape[::-1], (n_channels, n_outputs))


def means_of(X, lengths):
    n_valid = np.full(len(X), X.shape[1]) if lengths is None else lengths
    windows = zip(X.astype(float), n_valid)
    return np.reshape([window[:n].mean(axis=0) for window, n in windows], (len(X), X.shape[2]))


KINDS = {"means": MeansMember.restore}
''',
        "learners/means.py": '''"""MeansLearner: the mean of the windows of each class."""

import numpy as np

from sensorseq.learners.learner import FittedMember, Learner
from sensorseq.prediction.members.means import MeansMember, means_of


class MeansLearner(Learner):
    def fit(self, data, folds, seed):
        means = means_of(data.X, data.lengths)

        def fitted(rows):
            share = data.weight[rows, None] * np.eye(data.n_classes)[data.class_index[rows]]
            return MeansMember((share / share.sum(axis=0)).T @ means[rows])

        logits = np.full((len(data.X), data.n_classes), np.nan)
        for fit_rows, test_rows in folds.pairs:
            lengths = None if data.lengths is None else data.lengths[test_rows]
            logits[test_rows] = fitted(fit_rows).logits(data.X[test_rows], lengths)
        return FittedMember(fitted(folds.rows), logits)


LEARNERS = {"means": MeansLearner()}
''',
    },
    "reader": {
        "readers/tab.py": '''"""Read recordings from tables separated by tabs."""

import csv

import numpy as np

from sensorseq.readers.columns import Table
from sensorseq.stamps.read import seconds_of


class TabTable(Table):
    def __init__(self, path, options):
        with open(path, newline="") as file:
            names, *rows = csv.reader(file, delimiter="\\t")
        self.values = dict(zip(names, np.array(rows, dtype=float).T, strict=True))
        super().__init__(path, names)

    def read(self, names, time_name, options):
        stamps = seconds_of(self.path, time_name, self.values[time_name], options.time_unit)
        return {name: self.values[name] for name in names}, stamps
''',
        "readers/suffixes.py": (
            '    ".parquet": "parquet.open_parquet",\n',
            '    ".tab": "tab.TabTable",\n',
        ),
    },
    "optimizer": {
        "base/optimizers.py": (
            "OPTIMIZERS = {\n",
            '    "adagrad": OptimizerFacts(None, ("eps", "lr_decay"), 1e-2),\n',
        ),
        "training/optim.py": (
            "_CLASSES: dict[str, type[torch.optim.Optimizer]] = {\n",
            '    "adagrad": torch.optim.Adagrad,\n',
        ),
    },
}
PROGRAMS = {
    "option": """
import inspect, tomllib
from sensorseq.cli import run
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparePipeline

pipeline = PreparePipeline(window_s=1, taper_s=0.25)
assert pipeline.options.taper_s == 0.25
for function in (prepare, PreparePipeline):
    assert inspect.signature(function).parameters["taper_s"].default is None
    assert "taper_s : float, optional" in function.__doc__
assert pipeline.configuration["window"]["taper_s"] == 0.25
again = PreparePipeline.from_configuration(tomllib.loads(pipeline.to_toml()))
assert again.configuration == pipeline.configuration
assert run(["prepare", "--help"]) == 0
""",
    "option of readers": """
from pathlib import Path
from sensorseq import read_recordings
from sensorseq.cli import run
from sensorseq.readers import ReadOptions

Path("one.csv").write_text("time,current\\n0,1.5\\n0.1,2.5\\n")
for options, given in (None, {"invert": True}), (ReadOptions(invert=True), {}):
    (recording,) = read_recordings("one.csv", options, **given)
    assert recording.values.tolist() == [[-1.5], [-2.5]]
command = ["prepare", "one.csv", "--invert", "--window-s", "0.1", "--split", "none"]
assert run([*command, "-o", "w.h5"]) == 0
assert run(["inspect", "--help"]) == 0
""",
    "step": """
import numpy as np
from sensorseq import PreparePipeline
from sensorseq.preprocessing.steps import make_step
from sensorseq.recording import Channel, Recording

step = make_step({"kind": "sum", "left": "a", "right": "b"})
assert make_step(step.to_dict()) == step
values = np.arange(6.0).reshape(3, 2)
recording = Recording(values, np.arange(3) / 10, (Channel("a", "A"), Channel("b", "A")), "r")
added = step.apply(recording)
assert added.channels[-1] == Channel("a_plus_b", "A")
assert (added.values[:, 2] == values.sum(axis=1)).all()
pipeline = PreparePipeline(window_s=1, steps=[{"kind": "sum", "left": "a", "right": "b"}])
assert 'kind = "sum"' in pipeline.to_toml()
""",
    "argument": """
import numpy as np, tempfile
from sklearn.base import clone
from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError
from sensorseq.training.parameters import check_parameters

classifier = clone(SensorLSTMClassifier(head_gain=2.0, max_epochs=1, features=None, hidden_size=4))
assert check_parameters(classifier.get_params()).head_gain == 2.0
try:
    check_parameters(classifier.set_params(head_gain=-1.0).get_params())
except ArgumentError as error:
    assert "head_gain" in str(error)
else:
    raise AssertionError("no check")
classifier.set_params(head_gain=3.0).fit(np.random.default_rng(0).normal(size=(20, 5)), [0, 1] * 10)
with tempfile.TemporaryDirectory() as folder:
    classifier.save(folder + "/m.safetensors")
    assert SensorLSTMClassifier.load(folder + "/m.safetensors").head_gain == 3.0
""",
    "member": """
import numpy as np
from sensorseq import SensorLSTMClassifier
from sensorseq.prediction import load

y = np.arange(40) % 2
X = np.random.default_rng(0).normal(size=(40, 12, 2)) + y[:, None, None]
settings = {"hidden_size": 4, "max_epochs": 1, "random_state": 0}
clf = SensorLSTMClassifier(features=["means", "summary"], **settings).fit(X, y)
assert "means" in clf.features_.names
clf.save("m")
assert (load("m").predict_proba(X) == clf.predict_proba(X)).all()
for export in clf.to_c, clf.to_onnx:
    try:
        export("exported")
    except ValueError as error:
        assert "'means' cannot be exported" in str(error)
    else:
        raise AssertionError("exported")
""",
    "cause": """
from sensorseq.diagnosis.causes import CAUSE_NAMES
from sensorseq.diagnosis.report import FluctuationReport

assert "window_overlap" in CAUSE_NAMES
history = {"loss": [0.5 + 0.2 * (-1) ** t for t in range(40)]}
(cause,) = FluctuationReport.from_history(history, arguments={"patch": 400}).causes
assert cause.evidence == "patch is 400, usually at most 50."
assert cause.recommendation == {"patch": "auto"}
assert cause.advice.startswith("Cut windows")
""",
    "optimizer": """
import numpy as np
from sensorseq import SensorLSTMClassifier

y = np.arange(40) % 2
X = np.random.default_rng(0).normal(size=(40, 12)) + 2.0 * y[:, None]
settings = {"optimizer": "adagrad", "optimizer_params": {"eps": 1e-8}, "learning_rate": 0.05}
clf = SensorLSTMClassifier(**settings, hidden_size=8, features=None, random_state=0).fit(X, y)
assert "does not know optimizer='adagrad'" in clf.engine_.reason
assert clf.score(X, y) > 0.9
""",
    "reader": """
from pathlib import Path
from sensorseq import read_recordings

folder = Path("recordings/grass")
folder.mkdir(parents=True)
(folder / "one.tab").write_text("time\\tcurrent\\n0\\t1.5\\n0.1\\t2.5\\n")
(recording,) = read_recordings("recordings")
assert recording.label == "grass"
assert recording.values.tolist() == [[1.5], [2.5]]
""",
}


def add(folder, files):
    for name, added in files.items():
        file = folder / name
        if isinstance(added, str):
            assert not file.exists()
            file.write_text(added, "utf-8")
            continue
        text = file.read_text("utf-8")
        for before, after in added if isinstance(added, list) else [added]:
            assert before in text, (name, before)
            text = text.replace(before, before + after, 1) if before else text + after
        file.write_text(text, "utf-8")


def files_said(recipe):
    """Return the number of files that the heading of a recipe in docs/development.md states."""
    text = (ROOT / "docs" / "development.md").read_text("utf-8")
    found = re.search(rf"^### [^\n]*\b{recipe}\b[^\n]* \((\d) files?\)$", text, re.M)
    assert found, recipe
    return int(found[1])


@pytest.mark.long
@pytest.mark.parametrize("recipe", ADDED)
def test_a_recipe_works_and_changes_as_many_files_as_it_states(recipe, tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sensorseq", tmp_path / "sensorseq", ignore=ignored)
    add(tmp_path / "sensorseq", ADDED[recipe])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAMS[recipe]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if recipe.startswith("option"):
        assert re.search(r"Fade both ends\.|--invert +Turn signs\.", done.stdout)
    assert len(ADDED[recipe]) == files_said(recipe)


def copy_with_a_member(folder):
    """Copy the package and the tests of members, and add the member of the recipe."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sensorseq", folder / "sensorseq", ignore=ignored)
    add(folder / "sensorseq", ADDED["member"])
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.long
def test_a_new_member_passes_the_tests_of_all_members(tmp_path):
    tests = [
        str(ROOT / "tests" / name) for name in ("prediction/members/test_member.py", "learners")
    ]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-q", "-n", "0"]
    command = [sys.executable, "-m", "pytest", *settings, "-k", "means", *tests]
    environment = copy_with_a_member(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 8


@pytest.mark.long
@pytest.mark.parametrize("file", ADDED["member"])
def test_a_new_member_needs_both_tables(file, tmp_path):
    environment = copy_with_a_member(tmp_path)
    changed = tmp_path / "sensorseq" / file
    changed.write_text(re.sub(r"^(KINDS|LEARNERS) = .*", "", changed.read_text(), flags=re.M))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAMS["member"]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "Error" in done.stderr


@pytest.mark.native
def test_a_new_instruction_set_is_a_row_of_both_tables(tmp_path):
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    folder = tmp_path / "csrc" / "isa"
    baseline = (folder / "baseline-inl.h").read_text("utf-8")
    (folder / "plain-inl.h").write_text(re.sub(r"\bbaseline\b", "plain", baseline), "utf-8")
    line = '#include "isa/neon-inl.h"\n'
    add(folder, {"each-inl.h": (line, '#include "isa/plain-inl.h"\n')})
    main = tmp_path / "main.cpp"
    main.write_text(
        """
#include <cstdio>
#include "cpu/dispatch.h"
#include "signal/signal_kernels.h"
int main() {
  const auto kernels = sensorseq::AllKernels();
  const auto loops = sensorseq::signal::AllSignalKernels();
  for (int64_t i = 0; i < kernels.n_rows; ++i) std::printf("%s ", kernels.rows[i]->name);
  for (int64_t i = 0; i < loops.n_rows; ++i) std::printf("%s ", loops.rows[i]->name);
}
""",
        "utf-8",
    )
    core = [path for path in (tmp_path / "csrc").rglob("*.cpp") if path.parent.name != "bind"]
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, "-std=c++17", "-O0", "-ffp-contract=off", "-Icsrc", "-pthread", "main.cpp"]
    subprocess.run([*command, *map(str, core), "-o", "main"], cwd=tmp_path, check=True)
    names = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = ["avx512", "avx2", "neon", "plain", "baseline"]
    assert names.stdout.split() == [*rows, *rows]
    assert files_said("instruction set") == 2
