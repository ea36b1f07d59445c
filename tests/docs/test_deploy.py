"""The example of docs/deploy.md runs, and its tables name what the code writes."""

import re

import numpy as np
import onnx
from checkout import code_in, page_of

PAGE = page_of("deploy.md")


def test_the_example_runs_and_the_metadata_are_on_the_page(in_tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.array(["ice", "mud"])[np.arange(40) % 2]
    X = rng.normal(size=(40, 10, 1)) + (y == "ice")[:, None, None]
    code = code_in(PAGE)[0]
    exec(code, {"X": X, "y": y})
    difference, classes = capsys.readouterr().out.splitlines()
    assert float(difference) < 1e-6
    assert classes == '["ice", "mud"]'
    written = {entry.key for entry in onnx.load("terrain.onnx").metadata_props}
    keys = set(re.findall(r"`(\w+)`", PAGE.split("key of the metadata")[1].split("\n\n")[0]))
    assert written <= keys
