"""Modules that moved can be imported by their old names."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("stamps", "regrid", "repair_stamps"),
        ("step_transformer", "recording_transformers", "SignalSteps"),
        ("time_split", "split", "split_by_time"),
        ("transformers", "recording_transformers", "Windower"),
        ("transformers", "window_transformers", "ClassBalancer"),
        ("weights", "balance", "class_weights"),
    ],
)
def test_an_old_name_gives_the_same_object_and_a_warning_with_the_new_name(old, new, name):
    package = "sensorseq.preprocessing"
    sys.modules.pop(f"{package}.{old}", None)
    with pytest.warns(FutureWarning, match=rf"{package}\.{old} is now in .*\b{new}\b") as caught:
        moved = importlib.import_module(f"{package}.{old}")
    assert getattr(moved, name) is getattr(importlib.import_module(f"{package}.{new}"), name)
    assert len(caught) == 1
