"""Hypothesis strategies for causes and probes with arbitrary values of their types."""

import numpy as np
from hypothesis import strategies as st

from sensorseq.diagnosis.causes import (
    CAUSE_NAMES,
    GRADES,
    Cause,
    NotTested,
    Probes,
    Trial,
)

ODD = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=120)
NUMBERS = st.floats() | st.floats(-1e3, 1e3).map(np.float32) | st.floats(0, 1)
LONG = st.sampled_from(["word " * 200, "x" * 300, "<script>alert(1)</script>", ""])
WORDS = ODD | LONG
VALUES = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.integers(),
    ODD,
    st.just((0.9, 0.999)),
    st.just({0: 1.0, 1: 2.5}),
    st.sampled_from([np.tanh, len, np.int64(3), np.array([1.0, np.nan])]),
)
ARGUMENTS = st.dictionaries(ODD | st.sampled_from(["learning_rate", "lr_schedule"]), VALUES)
ARGUMENTS = ARGUMENTS.filter(lambda arguments: len(arguments) < 6)
SERIES = st.lists(NUMBERS, max_size=5)
NAMES = st.sampled_from(CAUSE_NAMES) | ODD

CAUSES = st.builds(
    Cause,
    name=NAMES,
    grade=st.sampled_from(GRADES) | ODD,
    evidence=WORDS,
    finding=ODD,
    recommendation=ARGUMENTS,
    advice=WORDS,
    sources=st.dictionaries(st.sampled_from(["curve", "data", "arguments", "race"]), WORDS),
    is_minor=st.booleans(),
)
TRIALS = st.builds(
    Trial,
    cause=NAMES,
    name=ODD,
    change=ARGUMENTS,
    kind=st.sampled_from(["race", "snapshot", "inference"]) | ODD,
    outcome=st.sampled_from(["confirmed", "rejected", "undecided"]) | ODD,
    sentence=WORDS,
    noise_ratio=st.none() | NUMBERS,
    raw_change=st.none() | NUMBERS,
    curves=st.dictionaries(
        st.sampled_from(["A", "A'", "B"]) | ODD, st.lists(SERIES, max_size=3), max_size=4
    ),
    cost_epochs=NUMBERS,
    change_error=st.none() | NUMBERS,
    accuracy_change=st.none() | NUMBERS,
    accuracy_error=st.none() | NUMBERS,
)
PROBES = st.builds(
    Probes,
    budget=NUMBERS,
    cost=NUMBERS,
    fit_s=NUMBERS,
    probes_s=NUMBERS,
    trials=st.lists(TRIALS, max_size=3).map(tuple),
    not_tested=st.lists(st.builds(NotTested, NAMES, WORDS, WORDS), max_size=4).map(tuple),
    repair=ARGUMENTS,
    previous=ARGUMENTS,
    note=WORDS,
)
