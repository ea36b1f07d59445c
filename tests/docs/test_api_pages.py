"""Every public name is on a page of docs/api, and its docstring documents its parameters."""

import importlib
import importlib.util
import inspect
import re

import pytest
from checkout import ROOT, script

from sensorseq.options import ReadOptions
from sensorseq.preprocessing import PreparationOptions

API = ROOT / "docs" / "api"
MODULES = [
    "sensorseq",
    *("sensorseq.datasets", "sensorseq.diagnosis", "sensorseq.errors"),
    *("sensorseq.evaluation", "sensorseq.features"),
    *("sensorseq.history", "sensorseq.model_selection", "sensorseq.nn"),
    *("sensorseq.ops", "sensorseq.preprocessing", "sensorseq.readers", "sensorseq.recording"),
    *("sensorseq.training", "sensorseq.training.callbacks"),
    *("sensorseq.sequence", "sensorseq.sensor_windows", "sensorseq.windows"),
]


def public_objects():
    """Return every public object once, in a dictionary with keys `module.name`."""
    objects = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if name != "__version__" and not any(value is listed for listed in objects.values()):
                objects[f"{module_name}.{name}"] = value
    return objects


def documented_names():
    """Return the dotted names that the pages of docs/api pass to mkdocstrings."""
    text = "\n".join(page.read_text("utf-8") for page in sorted(API.glob("*.md")))
    return re.findall(r"^::: (\S+)$", text, re.M)


def find(dotted):
    """Import the module in a dotted name; return the object with that name."""
    module_name, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module_name), name)


def names_in_section(docstring, *titles):
    """Return the names in numpydoc sections such as Parameters, without the stars."""
    names = []
    for title in titles:
        section = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.S | re.M)
        for line in (section[1] if section else "").splitlines():
            if line and not line[0].isspace():
                names += [name.strip().lstrip("*") for name in line.split(" :")[0].split(",")]
    return names


def methods_of(kind):
    """Yield the name and function of each public method that this package defines."""
    for name, value in inspect.getmembers_static(kind):
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        is_ours = str(getattr(function, "__module__", "")).startswith("sensorseq")
        if inspect.isfunction(function) and is_ours and not name.startswith("_"):
            yield name, function


def signature_of(function):
    """Return the parameters that a caller passes."""
    if inspect.isclass(function):
        if issubclass(function, (Exception, tuple)):  # classes without an __init__ of their own
            return list(getattr(function, "_fields", ()))
        function = function.__init__
        if function is object.__init__:
            return []
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


OBJECTS = public_objects()
CALLABLES = {
    name: value
    for name, value in OBJECTS.items()
    if inspect.isclass(value) or inspect.isroutine(value)
}


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_docstring_of_a_public_name_has_the_parameters_of_its_signature(name):
    value = CALLABLES[name]
    wrong = []
    methods = methods_of(value) if inspect.isclass(value) else ()
    for of, function in [("", value), *methods]:
        docstring = inspect.cleandoc(function.__doc__ or "")
        named = names_in_section(docstring, "Parameters")
        if not named and inspect.isclass(value) and not of:
            # a class that is only returned, never made by the user, lists its fields
            named = names_in_section(docstring, "Attributes")
        if value is PreparationOptions and not of:  # the other options are those of ReadOptions
            named += set(names_in_section(inspect.getdoc(ReadOptions), "Parameters")) - {*named}
        if not docstring or sorted(named) != sorted(signature_of(function)):
            wrong.append(f"{name}.{of}: {named} documented, takes {signature_of(function)}")
    assert not wrong, "\n".join(wrong)


def test_every_public_name_is_on_one_page_and_nothing_else_is():
    documented = documented_names()
    assert len(documented) == len(set(documented))
    shown = [find(name) for name in documented]
    for name, value in OBJECTS.items():
        assert any(value is other for other in shown), f"{name} is on no page of docs/api"
    for name, value in zip(documented, shown, strict=True):
        assert any(value is other for other in OBJECTS.values()), f"{name} is not public"


def test_every_api_page_is_in_the_index():
    index = (API / "README.md").read_text("utf-8")
    for page in API.glob("*.md"):
        assert page.stem == "README" or f"]({page.name})" in index


def test_the_help_of_every_command_is_put_on_its_page():
    hooks = script(ROOT / "docs" / "site_hooks.py")
    page = hooks.on_page_markdown((API / "cli.md").read_text("utf-8"))
    assert hooks.MARK not in page
    headings = re.findall(r"^## (\w+)$", page, re.M)
    assert {"prepare", "train", "evaluate", "predict", "diagnose", "doctor"} <= set(headings)
    for name in headings:
        assert f"Usage: sensorseq {name} " in page
    assert hooks.on_page_content("as in [1]_: x[0] <p>.. [1] A. Author") == (
        "as in [1]: x[0] <p>[1] A. Author"
    )
