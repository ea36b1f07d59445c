"""Reads files of the checkout that are outside the package, and runs its programs."""

import ast
import gc
import importlib.util
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def page_of(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def code_in(page, language="python"):
    """Return a page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def tree_of(path):
    """Return the syntax tree of a module."""
    # with garbage collection, most of the time would be spent visiting the same nodes repeatedly
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        gc.enable()


def script(path):
    """Import a script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_process(*command, cwd=ROOT, without=(), **environment):
    """Run a program until it ends; return its exit code and output."""
    env = {name: value for name, value in os.environ.items() if name not in without}
    env |= {"PYTHONPATH": str(ROOT), **environment}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=env)
