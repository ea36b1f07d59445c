"""Draw the packages of sensorseq in their layers, with the path of a window through them.

python docs/house_picture.py

The layers come from tests/house/test_architecture.py, which checks the imports against them.
CONTRIBUTING.md shows the picture.
"""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "images" / "house.png"
RULES = HERE.parent / "tests" / "house" / "test_architecture.py"
WAY = (  # the path of a window from the file to the report: each package, and its operation
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


def draw(layers: list[list[str]]) -> plt.Figure:
    """Draw a row for each layer, and boxes with arrows for the path of a window."""
    figure, axis = plt.subplots(figsize=(12, 0.42 * len(layers)))
    level = {name: i for i, layer in enumerate(layers) for name in layer}
    for i, layer in enumerate(layers):
        rest = ", ".join(name for name in layer if name not in dict(WAY))
        axis.text(0, i, rest, va="center", color=QUIET, fontsize=7.5)
        axis.axhline(i - 0.5, color=QUIET, lw=0.3, zorder=0)
    place = {name: (4.3 + 1.6 * i, level[name]) for i, (name, _) in enumerate(WAY)}
    for number, (name, what) in enumerate(WAY, 1):
        box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": ACCENT}
        axis.text(
            *place[name],
            f"{number}. {name}\n{what}",
            ha="center",
            va="center",
            color=INK,
            fontsize=7,
            bbox=box,
            zorder=2,
        )
    points = list(place.values())
    for here, there in pairwise(points):
        arrow = {"arrowstyle": "->", "color": ACCENT, "lw": 0.8, "shrinkA": 14, "shrinkB": 14}
        axis.annotate("", there, here, arrowprops=arrow, zorder=1)
    axis.set_xlim(-0.1, 3.6 + 1.6 * len(WAY))
    axis.set_ylim(-0.6, len(layers) - 0.4)
    axis.axis("off")
    return figure


def main() -> None:
    """Draw the picture into docs/images."""
    with plt.style.context(HERE / "pictures.mplstyle"):
        draw(read_layers()).savefig(PICTURE, metadata={"Software": None})
    print(PICTURE)


if __name__ == "__main__":
    main()
