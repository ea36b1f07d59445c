"""What a report of a module of one's own recommends: in words of its code, not of our arguments."""

import copy
import html
import pickle
import re
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch
from fits import plain_classifier
from torch import nn

from sensorseq.diagnosis import FluctuationReport, probe_module
from sensorseq.diagnosis.causes import TABLE, Cause, Probes, Trial
from sensorseq.diagnosis.module import ModuleOrigin, say_change
from sensorseq.diagnosis.page import make_fragment, make_page
from sensorseq.errors import ArgumentError

# Arguments of our estimator that neither probe_module nor torch has under that name.
OURS = set(plain_classifier().get_params()) - set(signature(probe_module).parameters)
OURS -= {"hidden_size", "num_layers", "weight_decay", "momentum"}
OURS -= {"label_smoothing", "dropout", "bidirectional"}
# As a call writes them, or a name that is no word of plain English and no cause.
CAUSES = {"learning_rate", "weight_init", "optimizer", "loss", "early_stopping"}
NEVER = [
    *(rf"\b{name}=" for name in sorted(OURS)),
    *(rf"\b{name}\b" for name in sorted(OURS - CAUSES) if "_" in name),
    *(r"\bclf\b", r"set_params", r"\bclassifier", r"\barguments?\b", r"recordings="),
    *(r"(?i)\btake None\b", r"proof\.apply", r"report\.probe with"),
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
            f"{probes.note}",
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
        (sgd(0.5, momentum=0.98), {}),
        (adam(0.01), {"shares": [0.9, 0.06, 0.04], "sampler": "balanced"}),
        (sgd(0.1, momentum=0.9), {"scale": np.array([1.0, 3e2, 5e3])}),
        (adam(0.01, weight_decay=0.5), {}),
        (lambda p: torch.optim.RMSprop(p, lr=0.2), {"budget": 3.0}),
    ],
    ids=["rate", "judged alone", "momentum", "classes", "scale", "decay", "proved"],
)
def test_a_report_names_no_argument_that_a_module_has_not(make_optimizer, given):
    report = report_of(make_optimizer=make_optimizer, **given)
    assert leaks(everything_said(report)) == []
    assert report.of_module


def test_what_would_leak_is_seen():
    leaking = Cause("loss", "suspected", "x.", recommendation={"class_weight": "balanced"})
    report = FluctuationReport("fluctuating", "mild", (), causes=(leaking,))
    assert {"clf", "set_params", "class_weight="} <= set(leaks(everything_said(report)))


def test_each_change_that_a_runner_of_a_module_can_make_has_words():
    runner = report_of(budget=0, max_epochs=1).origin.runner
    values = {"clip_by": ["norm"], "lr_schedule": ["cosine"], "sampler": ["balanced", "shuffle"]}
    values["last_batch"] = ["merge", "drop", "keep"]
    for name in runner.changeable:
        for value in values.get(name, [8]):
            assert leaks(say_change({name: value})) == []
            assert f"{value!r}" not in say_change({name: value}) or value == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"weight_decay": 0.1, "learning_rate": 0.05},
            "lr=0.05, weight_decay=0.1 in the optimizer",
        ),
        (
            {"max_grad_norm": 1.0, "clip_by": "norm", "batch_size": None},
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1) before each step, all windows"
            " in one batch",
        ),
        ({"something": [1]}, "something=[1]"),
    ],
    ids=["optimizer", "clipping", "no words"],
)
def test_a_change_is_said_once_and_where_it_is_made(change, words):
    assert say_change(change) == words


def test_what_a_runner_cannot_change_is_recommended_without_its_value():
    runner = report_of(budget=0, max_epochs=1).origin.runner
    causes = (
        Cause("batch_size", "suspected", "", "too small", {"batch_size": 64}, advice="More."),
        Cause("model_complexity", "suspected", "", "", {"hidden_size": 64}, "More units."),
        Cause("label_noise", "suspected", "", advice="Check the labels."),
    )
    report = FluctuationReport("fluctuating", "mild", (), causes=causes)
    batch, network, labels = ModuleOrigin(runner, None, 1.0).in_words(report).causes
    assert batch.advice == "Take DataLoader(batch_size=64). More."
    assert network.advice == "More units."
    assert labels.advice == "Check the labels."
    assert not any(cause.recommendation for cause in (batch, network, labels))


def test_the_advice_of_a_cause_is_in_words_of_any_framework():
    assert [leaks(entry.advice) for entry in TABLE if leaks(entry.advice)] == []


def test_options_of_the_optimizer_that_a_run_had_are_not_recommended():
    runner = report_of(make_optimizer=sgd(0.5, momentum=0.9), budget=0, max_epochs=3).origin.runner
    assert runner.arguments["momentum"] == 0.9
    for name, value in {"class_weight": None, "l1": 0.0, "optimizer_params": None}.items():
        assert runner.arguments[name] == value
        assert name not in runner.changeable


class TorchWords:
    words = staticmethod(say_change)


def test_a_repair_says_what_to_take_first_and_once():
    trials = (Trial("learning_rate", "a", {}, "race", "confirmed", "It is calm.", 4),)
    changed = {"repair": {"learning_rate": 0.0188}, "previous": {"learning_rate": 0.3}}
    probes = Probes(1.0, trials=trials, **changed, note="Its validation loss is lower.")
    report = FluctuationReport("fluctuating", "mild", (), probes=probes)
    said = ModuleOrigin(TorchWords(), None, 1.0).in_words(report)
    assert said.probes.note == "Take lr=0.0188 in the optimizer. Its validation loss is lower."
    assert " ".join(str(said).split()).count("Take lr") == 1


def test_probing_a_judged_run_twice_says_each_thing_once():
    judged = report_of(budget=0)
    assert judged.verdict == "fluctuating"
    proof = judged.probe(None, verbose=0)
    for report in (proof, proof.probe(None, verbose=0)):
        assert leaks(everything_said(report)) == []
        assert not any(cause.recommendation for cause in report.causes)
        assert all(cause.advice.count("Take ") <= 1 for cause in report.causes)


def test_a_report_of_a_module_says_so_in_a_file_as_well():
    report = report_of(budget=0, max_epochs=12)
    again = FluctuationReport.from_dict(report.to_dict())
    assert again.of_module
    assert leaks(str(again)) == []


def test_a_pickle_holds_no_module_and_no_window():
    report = report_of(make_model=lambda: Recurrent(0.1), max_epochs=5, budget=0)
    content = pickle.dumps(report)
    again = pickle.loads(content)
    assert again.to_dict() == report.to_dict()
    assert (again.record, again.origin) == (None, None)
    window = report.origin.runner.train.X[0]
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
