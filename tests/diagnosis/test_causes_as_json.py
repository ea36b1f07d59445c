"""Causes survive the conversion to plain values and back."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_strategies import CAUSES
from sample_reports import SAMPLES, restless

from sensorseq.base.text import plain
from sensorseq.diagnosis.causes import Cause
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError


@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_is_restored_unchanged_from_json(name):
    report = SAMPLES[name]()
    again = FluctuationReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert again.causes == report.causes
    assert again.to_dict() == report.to_dict()
    assert str(again) == str(report)
    assert repr(again) == repr(report)


@given(causes=st.lists(CAUSES, max_size=3).map(tuple))
def test_any_contents_convert_to_json_and_back_unchanged(causes):
    report = FluctuationReport("fluctuating", "mild", (), causes)
    described = report.to_dict()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    again = FluctuationReport.from_dict(described)
    assert again.to_dict() == described


def test_arguments_become_json_values():
    repair = {
        "optimizer_params": {"betas": (0.9, np.float32(0.5))},
        "batch_size": np.int64(8),
        "weight_init": np.tanh,
        "max_grad_norm": None,
        "early_stopping": np.bool_(True),
        "loss": math.fsum,
    }
    described = plain(Cause("loss", "", recommendation=repair))["recommendation"]
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
        wrong(("causes", 0), is_minor="hardly"),
        wrong(("causes", 0), recommendation="abc"),
    ],
)
def test_an_invalid_description_is_rejected(described):
    with pytest.raises(ArgumentError, match="not a fluctuation report"):
        FluctuationReport.from_dict(described)


def test_unknown_keys_are_ignored():
    described = restless().to_dict()
    told = FluctuationReport.from_dict(described)
    for cause in described["causes"]:
        cause["grade"] = "suspected"
    again = FluctuationReport.from_dict({**described, "probes": {"cost": 1.0}})
    assert again.causes == told.causes


def test_a_report_of_an_earlier_version_is_refused_in_one_sentence():
    with pytest.raises(ArgumentError, match=r"has format version 6, .* reads version 7; fit again"):
        FluctuationReport.from_dict(restless().to_dict() | {"version": 6})


def test_every_field_is_described():
    described = restless().to_dict()
    assert set(described["causes"][0]) == {field.name for field in fields(Cause)}
