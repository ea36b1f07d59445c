"""Causes and probes survive the conversion to plain values and back."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_strategies import CAUSES, PROBES
from sample_reports import SAMPLES, TRIALS, restless

from sensorseq.diagnosis.causes import Cause, Probes
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError
from sensorseq.text import plain


@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_is_restored_unchanged_from_json(name):
    report = SAMPLES[name]()
    again = FluctuationReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert again.causes == report.causes
    assert again.probes == report.probes
    assert again.to_dict() == report.to_dict()
    assert str(again) == str(report)
    assert repr(again) == repr(report)


@given(causes=st.lists(CAUSES, max_size=3).map(tuple), probes=st.none() | PROBES)
def test_any_contents_convert_to_json_and_back_unchanged(causes, probes):
    report = FluctuationReport("fluctuating", "mild", (), causes, probes=probes)
    described = report.to_dict()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    again = FluctuationReport.from_dict(described)
    assert again.to_dict() == described


def test_non_finite_numbers_are_restored_as_none_or_nan():
    curves = {"A": [[1.0, math.nan]], "B": [[math.inf]]}
    trial = replace(TRIALS[0], noise_ratio=math.nan, raw_change=math.inf, curves=curves)
    probes = Probes(math.inf, cost=math.nan, trials=(trial,))
    report = FluctuationReport("normal", None, (), probes=probes)
    text = json.dumps(report.to_dict(), allow_nan=False)
    again = FluctuationReport.from_dict(json.loads(text))
    (back,) = again.probes.trials
    assert back.noise_ratio is back.raw_change is None
    np.testing.assert_array_equal(back.curves["A"], [[1.0, math.nan]])
    assert math.isnan(back.curves["B"][0][0])
    assert math.isnan(again.probes.budget)


def test_arguments_become_json_values():
    repair = {
        "optimizer_params": {"betas": (0.9, np.float32(0.5))},
        "batch_size": np.int64(8),
        "weight_init": np.tanh,
        "max_grad_norm": None,
        "early_stopping": np.bool_(True),
        "loss": math.fsum,
    }
    described = plain(Probes(1.0, repair=repair))["repair"]
    assert described == {
        "optimizer_params": {"betas": [0.9, 0.5]},
        "batch_size": 8,
        "weight_init": "tanh",
        "max_grad_norm": None,
        "early_stopping": True,
        "loss": "fsum",
    }
    assert [type(described[name]) for name in ("batch_size", "early_stopping")] == [int, bool]


def wrong(part, **values):
    described = restless().to_dict()
    target = described
    for name in part:
        target = target[name]
    target.update(values)
    return described


@pytest.mark.parametrize(
    "described",
    [
        wrong((), causes=[{}]),
        wrong((), causes=[{"name": "loss"}]),
        wrong((), causes=5),
        wrong((), probes={}),
        wrong((), probes=[1]),
        wrong(("causes", 0), is_minor="hardly"),
        wrong(("causes", 0), recommendation="abc"),
        wrong(("probes",), cost="much"),
        wrong(("probes",), repair=[1]),
        wrong(("probes", "trials", 0), curves={"A": 3}),
    ],
)
def test_an_invalid_description_is_rejected(described):
    with pytest.raises(ArgumentError, match="not a fluctuation report"):
        FluctuationReport.from_dict(described)


def test_keys_of_other_versions_are_ignored():
    described = restless().to_dict()
    told = FluctuationReport.from_dict(described)
    for cause in described["causes"]:
        cause["confidence"] = 0.5
    for trial in described["probes"]["trials"]:
        trial |= {"evidence_ratio": [0.5], "bounds": [None, 2.89], "averaged_change": -0.1}
    described["probes"]["another"] = 1
    again = FluctuationReport.from_dict(described)
    assert again.probes == told.probes
    assert again.causes == told.causes


def test_every_field_is_described():
    described = restless().to_dict()
    assert set(described["causes"][0]) == {field.name for field in fields(Cause)}
    assert set(described["probes"]) == {field.name for field in fields(Probes)}
