"""Draw the packages of sensorseq in their layers, with the path of a window through them.

python docs/house_picture.py

The layers come from tests/house/test_architecture.py and tests/native/test_folders.py, which check
imports and includes against them. CONTRIBUTING.md shows the picture.
"""

import runpy
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "images" / "house.png"
PACKAGE = HERE.parent / "sensorseq"
RULES = HERE.parent / "tests" / "house" / "test_architecture.py"
CORE_RULES = HERE.parent / "tests" / "native" / "test_folders.py"
WAY = (  # the path of a window from its file to its score: each package, and its operation
    ("readers", "recordings are read"),
    ("preprocessing", "resampled, cut, split"),
    ("io", "kept in a file"),
    ("estimator", "checked, scaled"),
    ("inspection", "searched for faults"),
    ("training", "drawn in batches"),
    ("ops", "through the kernels"),
    ("diagnosis", "the curve is judged"),
    ("evaluation", "scored"),
)
INK, QUIET, ACCENT = "#1f2933", "#7b8794", "#0b6bcb"


def read_layers() -> list[list[str]]:
    """Return the packages of each layer, beginning with the lowest layer."""
    order = RULES.read_text("utf-8").partition('ORDER = """')[2].partition('"""')[0]
    return [layer.split() for layer in order.split("<")]


def read_core() -> list[list[str]]:
    """Return the folders of csrc in groups: a folder includes only folders of earlier groups."""
    sorter = TopologicalSorter(runpy.run_path(str(CORE_RULES))["BELOW"])
    sorter.prepare()
    groups = []
    while sorter.is_active():
        groups.append(sorted(sorter.get_ready()))
        sorter.done(*groups[-1])
    return groups


def caption(name: str) -> str:
    """Return the name of a room with a slash, or the name of a door, a file at the top."""
    return f"{name}/" if (PACKAGE / name).is_dir() else name


def draw(layers: list[list[str]]) -> plt.Figure:
    """Draw a row for each layer, and boxes with arrows for the path of a window."""
    figure, axis = plt.subplots(figsize=(13, 0.4 * len(layers)))
    level = {name: i for i, layer in enumerate(layers) for name in layer}
    for i, layer in enumerate(layers):
        rest = [caption(name) for name in layer if name not in dict(WAY)]
        axis.text(0, i, "  ".join(rest), va="center", color=INK, fontsize=9)
        axis.axhline(i - 0.5, color=QUIET, lw=0.3, zorder=0)
    place = {name: (3.9 + 2 * i, level[name]) for i, (name, _) in enumerate(WAY)}
    boxes = {}
    for number, (name, what) in enumerate(WAY, 1):
        box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": ACCENT}
        text = axis.text(
            *place[name],
            f"{number}. {name}/\n{what}",
            ha="center",
            va="center",
            color=INK,
            fontsize=7.5,
            bbox=box,
            zorder=2,
        )
        boxes[name] = text.get_bbox_patch()
    for here, there in pairwise(place):
        ends = {"patchA": boxes[here], "patchB": boxes[there], "shrinkA": 0, "shrinkB": 0}
        arrow = {"arrowstyle": "->", "color": ACCENT, **ends}
        axis.annotate("", place[there], place[here], arrowprops=arrow, zorder=1)
    axis.set_xlim(-0.1, 2.9 + 2 * len(WAY))
    groups = (" ".join(f"{name}/" for name in group) for group in read_core())
    axis.text(0, -1, "csrc/   " + "  <  ".join(groups), va="center", color=INK, fontsize=9)
    axis.set_ylim(-1.6, len(layers) - 0.4)
    axis.axis("off")
    return figure


def main() -> None:
    """Draw the picture into docs/images."""
    with plt.style.context(HERE / "pictures.mplstyle"):
        draw(read_layers()).savefig(PICTURE, metadata={"Software": None})
    print(PICTURE)


if __name__ == "__main__":
    main()
