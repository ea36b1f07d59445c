"""What lies in the checkout beside the package: pages with their code, and scripts."""

import ast
import gc
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def page_of(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def code_in(page, language="python"):
    """Return the blocks of code that a page shows in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def tree_of(path):
    """Return the syntax tree of a module."""
    gc.disable()  # it would look at the same nodes again and again, which takes most of the time
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        gc.enable()


def script(path):
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
