"""The pages of docs/preprocessing say what the code does, and show pictures that exist."""

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sensorseq import PreparePipeline, Recording
from sensorseq.preprocessing.configuration import make_configuration

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "preprocessing").glob("*.md"))
PICTURES = ROOT / "docs" / "images" / "preprocessing"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


def drawn():
    """Names of the functions that the script makes pictures with."""
    tree = ast.parse((ROOT / "docs" / "pictures.py").read_text("utf-8"))
    table = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "PICTURES"
    )
    names = {node.id for node in ast.walk(table) if isinstance(node, ast.Name)}
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} & names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_step_has_a_page_and_every_page_a_picture_that_the_script_draws():
    pages = {page.stem for page in PAGES} - {"README"}
    assert pages == drawn() == {picture.stem for picture in PICTURES.glob("*.png")}
    index = (ROOT / "docs" / "preprocessing" / "README.md").read_text("utf-8")
    for page in pages:
        assert f"({page}.md)" in index
        assert f"/{page}.png" in (ROOT / "docs" / "preprocessing" / f"{page}.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_configurations_on_a_page_are_understood(page):
    for text in blocks(page, "toml"):
        said = tomllib.loads(text)
        said["window"] = {"window_s": 5.0, **said.get("window", {})}
        PreparePipeline.from_configuration(make_configuration(said))


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "docs" / "validation.md"], ids=lambda page: page.stem
)
def test_what_a_page_imports_is_there(page):
    for text in blocks(page, "python"):
        tree = ast.parse(text)
        lines = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in lines:
            exec(ast.unparse(node), {})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_example_configurations_are_understood(path):
    PreparePipeline.from_toml(path)


def test_the_streamed_example_says_what_the_offline_preparation_says(capsys):
    recordings = [
        Recording.evenly_sampled(
            np.random.default_rng(seed).normal(size=(1500, 2)) * (1 + seed % 2),
            50.0,
            ("left", "right"),
            f"drive {seed}",
            label=("ice", "mud")[seed % 2],
        )
        for seed in range(6)
    ]
    offline, live = blocks(ROOT / "docs" / "preprocessing" / "streaming.md", "python")
    chunks = np.array_split(recordings[3].values, 211)
    names = {"recordings": recordings, "chunks": chunks}
    exec(offline.replace("random_state=0", "max_epochs=2, patience=2, random_state=0"), names)
    capsys.readouterr()
    exec(live, names)
    latency_s, *labels = capsys.readouterr().out.split()
    assert f"print(resampler.latency_s + stream.latency_s)  # {float(latency_s):.2f}\n" in live
    windows = names["pipeline"].windows_
    own = windows.take(np.flatnonzero(windows.recording_id == "drive 3"))
    expected = names["clf"].predict(own.X)
    # the stream is not flushed, so windows that end within the latency are still to come
    assert len(own) - 2 <= len(labels) < len(own)
    np.testing.assert_array_equal(labels, expected[: len(labels)])
