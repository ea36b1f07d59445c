"""The pages of docs agree with the code and show pictures that exist."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from page_links import leads_somewhere, links_of

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "preprocessing").glob("*.md"))
PICTURES = ROOT / "docs" / "images" / "preprocessing"
REMEDIES = sorted((ROOT / "docs" / "remedies").glob("*.md"))
ALL_PAGES = sorted((ROOT / "docs").rglob("*.md"))
REMEDY_PICTURES = ROOT / "docs" / "images" / "remedies"
# arguments that are not remedies: most determine only how or where a fit runs
NO_REMEDIES = {
    *("device", "dtype", "engine", "callbacks", "verbose", "random_state"),
    *("warm_start", "max_epochs", "validation_fraction"),
    *("features", "refit"),  # docs/features.md
    "motors",  # docs/motors.md
    "missing",  # docs/preprocessing/several_sensors.md
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


def calls_in(text):
    """Yield the name and the keyword names of each call."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            yield name, {keyword.arg for keyword in node.keywords}


def drawn():
    """Return the names of the functions that the script uses to make pictures."""
    tree = ast.parse((ROOT / "docs" / "pictures.py").read_text("utf-8"))
    table = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "PICTURES"
    )
    names = {node.id for node in ast.walk(table) if isinstance(node, ast.Name)}
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} & names


def name_of(page):
    return str(page.relative_to(ROOT / "docs").with_suffix(""))


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_links_and_pictures_of_a_page_exist(page):
    for target in links_of(page):
        assert leads_somewhere(page, target), f"{page.name}: {target}"


def test_every_page_is_reached_from_the_index():
    index = ROOT / "docs" / "README.md"
    reached, left = set(), [index]
    while left:
        page = left.pop()
        if page not in reached:
            reached.add(page)
            targets = {(page.parent / link.split("#")[0]).resolve() for link in links_of(page)}
            left += [target for target in targets if target in ALL_PAGES]
    assert {name_of(page) for page in set(ALL_PAGES) - reached} == set()
    named = {link.split("#")[0] for link in links_of(index)}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= named


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
        configuration = tomllib.loads(text)
        configuration["window"] = {"window_s": 5.0, **configuration.get("window", {})}
        PreparePipeline.from_configuration(configuration)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_imports_of_a_page_exist(page):
    for text in blocks(page, "python"):
        tree = ast.parse(text)
        lines = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in lines:
            line = ast.unparse(node)
            # sensorseq_runtime is a separate wheel; the others are installed only for tests/peers
            if not any(name in line for name in ("sensorseq_runtime", "mlflow", "captum")):
                exec(line, {})


def remedies_drawn():
    """Return the names of the pictures that docs/remedy_pictures.py makes."""
    tree = ast.parse((ROOT / "docs" / "remedy_pictures.py").read_text("utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.target.id in ("STUDIES", "SPECIAL")
    ]
    return {key.value for table in tables for key in table.keys}


def test_every_remedy_has_a_page_in_the_index_and_a_picture_that_the_script_draws():
    pages = {page.stem for page in REMEDIES} - {"README"}
    pictures = {picture.stem: picture for picture in REMEDY_PICTURES.glob("*.png")}
    # the remedy `checkpoints` repairs no curve, so it has no picture
    assert pages - {"checkpoints"} == remedies_drawn() == set(pictures)
    index = (ROOT / "docs" / "remedies" / "README.md").read_text("utf-8")
    for page in pages:
        assert f"({page}.md)" in index
        text = (ROOT / "docs" / "remedies" / f"{page}.md").read_text("utf-8")
        assert "**Symptom.**" in text
        if page in pictures:
            assert f"/{page}.png" in text
            assert pictures[page].stat().st_size < 60_000


@pytest.mark.parametrize("page", REMEDIES, ids=lambda page: page.stem)
def test_arguments_in_the_snippets_of_a_remedy_are_arguments_of_the_estimators(page):
    texts = blocks(page, "python")
    assert texts or page.stem == "README"
    named = []
    for text in texts:
        for name, keywords in calls_in(text):
            if name == "SensorLSTMClassifier":
                assert keywords <= set(inspect.signature(SensorLSTMClassifier).parameters)
                named += keywords
            elif name in ("fit", "predict"):
                method = getattr(SensorLSTMClassifier, name)
                assert keywords <= set(inspect.signature(method).parameters)
    assert named or page.stem == "README"


def test_every_argument_that_is_a_remedy_is_in_the_index_and_on_a_page():
    index, *pages = sorted(REMEDIES, key=lambda page: page.stem != "README")
    listed = set(re.findall(r"`(\w+)`", index.read_text("utf-8")))
    shown = {
        keyword
        for page in pages
        for text in blocks(page, "python")
        for _, keywords in calls_in(text)
        for keyword in keywords
    }
    parameters = set(inspect.signature(SensorLSTMClassifier).parameters)
    assert parameters - NO_REMEDIES - listed == set()
    assert parameters - NO_REMEDIES - shown == set()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_example_configurations_are_understood(path):
    PreparePipeline.from_toml(path)


def test_the_streamed_example_agrees_with_the_offline_preparation(capsys):
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
    assert f"print(stream.latency_s)  # {float(latency_s):.2f}\n" in live
    windows = names["pipeline"].windows_
    of_drive = windows.take(np.flatnonzero(windows.recording_id == "drive 3"))
    expected = names["clf"].predict(of_drive.X)
    # the stream is not flushed, so windows that end within the latency are still missing
    assert len(of_drive) - 2 <= len(labels) < len(of_drive)
    np.testing.assert_array_equal(labels, expected[: len(labels)])
