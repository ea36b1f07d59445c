"""What a report of a module of one's own recommends: in words of its code, not of our arguments."""

import ast
import copy
import html
import pickle
import re
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from fits import plain_classifier
from torch import nn

import sensorseq.fluctuation
from sensorseq.errors import ArgumentError
from sensorseq.fluctuation import FluctuationReport, probe_module
from sensorseq.fluctuation.causes.cause import Cause, NotTested, Probes, Trial
from sensorseq.fluctuation.page import make_fragment, make_page
from sensorseq.fluctuation.probes.module_words import PHRASES, in_words, say_change

# Arguments of our estimator that neither probe_module nor torch has under that name.
OURS = set(plain_classifier().get_params()) - set(signature(probe_module).parameters)
OURS -= {"weight_decay", "momentum", "label_smoothing", "dropout", "bidirectional"}
# As a call writes them, or a name that is no word of plain English and no cause.
CAUSES = {"learning_rate", "weight_init", "optimizer", "loss", "early_stopping"}
NEVER = [
    *(rf"\b{name}=" for name in sorted(OURS)),
    *(rf"\b{name}\b" for name in sorted(OURS - CAUSES) if "_" in name),
    r"\bclf\b",
    r"set_params",
    r"\bclassifier",
    r"\barguments?\b",
    r"recordings=",
    r"(?i)\btake None\b",
    r"proof\.apply",
    r"report\.probe with",
]
N_CHANNELS, N_CLASSES = 3, 3


class Recurrent(nn.Module):
    def __init__(self, dropout=0.0, weights=None):
        super().__init__()
        self.rnn = nn.LSTM(N_CHANNELS, 8, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(8, N_CLASSES))

    def forward(self, X):
        return self.head(self.rnn(X)[0][:, -1])


def adam(rate, **options):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, **options)


def sgd(rate, **options):
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, **options)


def report_of(make_model=Recurrent, make_optimizer=None, *, scale=1.0, shares=None, **given):
    rng = np.random.default_rng(0)
    y = np.arange(120) % N_CLASSES if shares is None else rng.choice(N_CLASSES, 120, p=shares)
    X = rng.normal(size=(120, 20, N_CHANNELS)) + 0.7 * y[:, None, None] * [1, 0, 0]
    arguments = {"max_epochs": 20, "random_state": 0, **given}
    X = (scale * X).astype(np.float32)
    return probe_module(make_model, make_optimizer or adam(0.3), X, y, **arguments)


def text_of(page):
    """Return what a page says, without its pictures and numbers."""
    page = re.sub(r"(?s)<(style|script|svg).*?</\1>|<details><summary>Appendix.*", "", page)
    page = re.sub(r"(?s)<section><h2>What was measured.*?</section>", "", page)
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def everything_said(report):
    probes = report.probes or Probes(0.0)
    return "\n".join(
        [
            str(report),
            text_of(make_page(report)),
            text_of(make_fragment(report)),
            *(f"{cause.evidence} {cause.advice}" for cause in report.causes),
            *(f"{part.reason} {part.would_settle}" for part in probes.not_tested),
            *(trial.sentence for trial in probes.trials),
            f"{probes.note} {probes.self_test}",
        ]
    )


def leaks(text):
    return [found.group() for words in NEVER for found in re.finditer(words, text)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("make_optimizer", "given"),
    [
        (adam(0.3), {}),
        (adam(0.3), {"budget": 0}),
        (adam(0.3), {"validation_fraction": 0.0}),
        (sgd(0.5, momentum=0.98), {}),
        (adam(0.01), {"shares": [0.9, 0.06, 0.04], "sampler": "balanced"}),
        (sgd(0.1, momentum=0.9), {"scale": [1.0, 3e2, 5e3]}),
        (adam(0.01), {"make_model": lambda: Recurrent(0.9)}),
        (adam(0.01, weight_decay=0.5), {}),
        (lambda p: torch.optim.RMSprop(p, lr=0.2), {"budget": 3.0}),
    ],
    ids=[
        "rate",
        "judged alone",
        "no validation",
        "momentum",
        "classes",
        "scale",
        "dropout",
        "decay",
        "proved",
    ],
)
def test_a_report_names_no_argument_that_a_module_has_not(make_optimizer, given):
    given = dict(given)
    if "scale" in given:
        given["scale"] = np.array(given["scale"])
    report = report_of(given.pop("make_model", Recurrent), make_optimizer, **given)
    assert leaks(everything_said(report)) == []
    assert report.of_module


def test_what_would_leak_is_seen():
    leaking = Cause("loss", "observed", 0.9, "x.", recommendation={"class_weight": "balanced"})
    report = FluctuationReport("fluctuating", "mild", (), causes=(leaking,))
    assert {"clf", "set_params", "class_weight="} <= set(leaks(everything_said(report)))


def arguments_in_recommendations():
    """Return every argument of our estimator that the sources of causes and probes change."""
    folder = Path(sensorseq.fluctuation.__file__).parent
    found = set()
    for path in [*folder.glob("causes/*.py"), *folder.glob("probes/*candidates.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("changed", "raised", "stopped_early"):
                    found |= {part.arg for part in node.keywords if part.arg}
            elif isinstance(node, ast.Dict):
                found |= {part.value for part in node.keys if isinstance(part, ast.Constant)}
    return sorted(found & set(plain_classifier().get_params()))


# Values that they are given there, of those arguments whose type does not tell.
VALUES = {
    "augment": ["standard"],
    "class_weight": ["balanced", None],
    "early_stopping": [True],
    "head_norm": ["layer", "none"],
    "last_batch": ["merge"],
    "loss": ["cross_entropy"],
    "lr_schedule": ["cosine"],
    "optimizer": ["adam", "adamw"],
    "optimizer_params": [None, {"momentum": 0.9}],
    "pooling": ["mean", "meanmax"],
    "recurrent_init": ["orthogonal"],
    "restore_best": [True],
    "sampler": ["balanced"],
    "scale": ["standard", "robust"],
    "weight_init": ["xavier"],
}


@pytest.mark.parametrize("name", arguments_in_recommendations())
def test_each_argument_that_causes_recommend_has_words(name):
    for value in VALUES.get(name, [8]):
        # what has none beside other changes, such as what is monitored, is left out there
        said = say_change({name: value, "batch_size": 64})
        assert "batches of 64 windows" in said or name == "batch_size"
        assert leaks(said) == []
        assert "None" not in said


def test_there_are_arguments_to_have_words_for():
    assert {*VALUES, "max_timesteps", "momentum", "l1"} <= set(arguments_in_recommendations())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"momentum": 0.9, "learning_rate": 0.05},
            "lr=0.05 and momentum=0.9 in make_optimizer",
        ),
        (
            {"optimizer": "adam", "learning_rate": 0.001, "optimizer_params": None},
            "torch.optim.Adam(parameters, lr=0.001) in make_optimizer",
        ),
        ({"optimizer_params": {"momentum": 0.9}}, "momentum=0.9 in make_optimizer"),
        (
            {"optimizer_params": {"momentum": 0.9}, "momentum": 0.9},
            "momentum=0.9 in make_optimizer",
        ),
        ({"optimizer_params": None}, "no other options than lr in make_optimizer"),
        ({"hidden_size": 8, "num_layers": 1}, "8 hidden units and 1 layer in make_model"),
        (
            {"scale": "robust", "batch_size": 64},
            "X with each channel less its median, over its interquartile range in the training"
            " windows, batches of 64 windows",
        ),
        ({"sampler": "balanced", "class_weight": None}, "batches drawn equally from each class"),
    ],
    ids=str,
)
def test_a_change_is_said_once_and_where_it_is_made(change, words):
    assert say_change(change) == words


def test_options_of_the_optimizer_that_a_run_had_are_not_recommended():
    lab = report_of(make_optimizer=sgd(0.5, momentum=0.9), budget=0, max_epochs=3).origin.lab
    assert lab.arguments["momentum"] == 0.9
    for name, value in {"class_weight": None, "l1": 0.0, "optimizer_params": None}.items():
        assert lab.arguments[name] == value
        assert name not in lab.changeable


def test_a_repair_says_what_to_take_first_and_once():
    probes = Probes(
        1.0,
        trials=(Trial("learning_rate", "a", {}, "race", "confirmed", "It is calm.", 4),),
        repair={"learning_rate": 0.0188},
        previous={"learning_rate": 0.3},
        note="Its validation loss is lower.",
    )
    report = FluctuationReport("fluctuating", "mild", (), probes=probes)
    said = in_words(report)
    assert said.probes.note == "Take lr=0.0188 in make_optimizer. Its validation loss is lower."
    assert " ".join(str(said).split()).count("Take lr") == 1


def test_every_phrase_that_is_said_otherwise_is_one_that_probes_say():
    folder = Path(sensorseq.fluctuation.__file__).parent
    sources = [*folder.glob("causes/*.py"), *folder.glob("probes/*.py"), *folder.glob("race/*.py")]
    said = "\n".join(
        node.value
        for path in sources
        if path.name != "module_words.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert [phrase for phrase in PHRASES if phrase not in said] == []


def test_what_was_not_tested_is_told_in_words_too():
    part = NotTested(
        "early_stopping", "there are no validation figures", "a fit with a validation part"
    )
    report = FluctuationReport("fluctuating", "mild", (), probes=Probes(1.0, not_tested=(part,)))
    (said,) = in_words(report).probes.not_tested
    assert said.would_settle == "validation_fraction above 0"


def test_probing_a_judged_run_says_the_same_as_probing_at_once(capsys):
    judged = report_of(budget=0)
    at_once = report_of(budget=1.0)
    proof = judged.probe(None)
    assert judged.verdict == "fluctuating"
    assert leaks(everything_said(proof)) == []
    assert not any(cause.recommendation for cause in proof.causes)
    for cause in proof.causes:
        assert cause.advice.count("Take lr") <= 1
    same = {cause.name: cause.advice for cause in at_once.causes}
    for cause in proof.causes:
        assert same.get(cause.name, cause.advice) == cause.advice
    again = proof.probe(None, verbose=0)
    assert all(cause.advice.count("Take lr") <= 1 for cause in again.causes)


def test_a_report_of_a_module_says_so_in_a_file_as_well():
    report = report_of(budget=0, max_epochs=12)
    again = FluctuationReport.from_dict(report.to_dict())
    assert again.of_module
    assert leaks(str(again)) == []
    older = report.to_dict()
    del older["of_module"]
    assert not FluctuationReport.from_dict(older).of_module


def test_a_pickle_holds_no_module_and_no_window():
    report = report_of(make_model=lambda: Recurrent(0.1), max_epochs=5, budget=0)
    content = pickle.dumps(report)
    again = pickle.loads(content)
    assert again.to_dict() == report.to_dict()
    assert (again.record, again.origin) == (None, None)
    window = report.origin.lab.train.X[0]
    assert window.tobytes() not in content
    assert report.record is not None
    assert copy.copy(report).verdict == report.verdict


def test_what_a_loaded_report_cannot_do_it_says():
    judged = report_of(budget=0, max_epochs=12)
    loaded = pickle.loads(pickle.dumps(judged))
    with pytest.raises(ArgumentError, match="probe_module"):
        loaded.probe(None)
    proof = replace(loaded, probes=Probes(1.0, repair={"learning_rate": 0.1}), of_module=False)
    with pytest.raises(ArgumentError, match=r"set_params\(learning_rate=0.1\)"):
        proof.apply()
