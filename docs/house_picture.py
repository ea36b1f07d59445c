"""Draw the packages of sensorseq, what imports what, and the way of a window through them.

python docs/house_picture.py

Layers and arrows come from the imports. CONTRIBUTING.md shows the picture.
"""

import ast
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "sensorseq"
PICTURE = HERE / "images" / "house.png"
EVERYWHERE = ("errors", "arguments", "memory", "_lazy")  # imported by nearly all
NO_PART = ("__init__", "__main__")
WAY = (  # of a window, from the file to the report: package, what happens to it there
    ("readers", "read"),
    ("preprocessing", "resampled, cut, split"),
    ("io", "kept"),
    ("estimator", "checked, scaled"),
    ("inspection", "looked at"),
    ("training", "drawn in batches"),
    ("ops", "through the kernels"),
    ("diagnosis", "its loss judged"),
    ("evaluation", "scored"),
)
INK, LINE, ACCENT = "#1f2933", "#cbd2d9", "#0b6bcb"


def part_of(path: Path) -> str:
    """Return the package, or the module at the top, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def read_imports() -> dict[str, set[str]]:
    """Return what each part imports at run time, of the other parts."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = part_of(path)
        if own in NO_PART:
            continue
        imported = found.setdefault(own, set())
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for library, *rest in (name.split(".") for name in names):
                if library == "sensorseq" and rest and rest[0] != own:
                    imported.add(rest[0])
    hidden = (*EVERYWHERE, *NO_PART)
    return {
        name: {other for other in others if other in found and other not in hidden}
        for name, others in found.items()
        if name not in hidden
    }


def find_layers(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return how far above the lowest part each part stands."""
    layers: dict[str, int] = {}

    def layer(name: str) -> int:
        if name not in layers:
            layers[name] = 1 + max((layer(other) for other in imports[name]), default=-1)
        return layers[name]

    for name in imports:
        layer(name)
    return layers


def draw(imports: dict[str, set[str]]) -> plt.Figure:
    """Draw the parts in layers, with the way of a window numbered."""
    layers = find_layers(imports)
    rows = [
        sorted(name for name in layers if layers[name] == i)
        for i in range(max(layers.values()) + 1)
    ]
    width = max(map(len, rows))
    place = {
        name: ((column + 0.5) * width / len(row), level)
        for level, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    figure, axis = plt.subplots(figsize=(9.6, 0.8 * len(rows)))
    for name, others in imports.items():
        for other in others:
            (x, y), (x_of, y_of) = place[name], place[other]
            axis.plot([x, x_of], [y - 0.2, y_of + 0.2], color=LINE, lw=0.7, zorder=1)
    numbers = {name: (number, what) for number, (name, what) in enumerate(WAY, 1)}
    for name, (x, y) in place.items():
        on_way = name in numbers
        title = "{0}. {name}\n{1}".format(*numbers[name], name=name) if on_way else name
        box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": ACCENT if on_way else LINE}
        axis.text(
            x, y, title, ha="center", va="center", color=INK, fontsize=7.5, bbox=box, zorder=2
        )
    axis.set_xlim(0, width)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.axis("off")
    return figure


def main() -> None:
    """Draw the picture into docs/images."""
    with plt.style.context(HERE / "pictures.mplstyle"):
        draw(read_imports()).savefig(PICTURE, metadata={"Software": None})
    print(PICTURE)


if __name__ == "__main__":
    main()
