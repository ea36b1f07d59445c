"""A hypothesis strategy for causes with arbitrary values of their types."""

import numpy as np
from hypothesis import strategies as st

from sensorseq.diagnosis.causes import CAUSE_NAMES, Cause

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
NAMES = st.sampled_from(CAUSE_NAMES) | ODD

CAUSES = st.builds(
    Cause,
    name=NAMES,
    evidence=WORDS,
    finding=ODD,
    recommendation=ARGUMENTS,
    advice=WORDS,
    sources=st.dictionaries(st.sampled_from(["curve", "data", "arguments"]), WORDS),
    is_minor=st.booleans(),
)
