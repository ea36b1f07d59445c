"""Draw how sure the answers of the fluctuation benchmark are, and which cause is taken for which.

    python benchmarks/fluctuation/pictures.py   # results/fluctuation.json to docs/images

Each picture holds a digest of the figures that it shows; a test holds it to the results.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fluctuation.json"
IMAGES = ROOT / "docs" / "images"
DIGEST = "Figures"  # the key of the digest in a picture
COLOUR, FAINT = "#0b6bcb", "#9aa5b1"
OURS = ("ours, statistics", "ours, probes")  # the confusion of the others tells nothing of us
NORMAL = "normal"
ENDS = (NORMAL, "unknown")  # behind all causes
STYLE = ROOT / "docs" / "pictures.mplstyle"

Facts = Mapping[str, Any]


def draw_reliability(facts: Facts) -> plt.Figure:
    """Draw how often first causes are right over how sure they are, a panel for each judge."""
    held = [found for found in facts["reliability"] if found["runs"]]
    figure, axes = plt.subplots(
        1, max(len(held), 1), figsize=(8.4, 3.1), sharex=True, sharey=True, squeeze=False
    )
    for axis, found in zip(axes[0], held, strict=False):
        bins = found["bins"]
        sure, right, low, high = np.array(
            [(b["confidence"], b["right"], *b["wilson"]) for b in bins]
        ).T
        axis.plot([0, 1], [0, 1], color="black", lw=0.6, ls=":")
        axis.vlines(sure, low, high, color=FAINT, lw=1.5)
        axis.plot(sure, right, "o-", color=COLOUR, lw=0.8, ms=4)
        for held_bin in bins:
            place = (held_bin["confidence"], max(held_bin["wilson"][1], held_bin["right"]))
            axis.annotate(
                held_bin["runs"],
                place,
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        axis.set_title(f"{found['judge']}: error {found['expected_error']:.3f}")
        axis.set(xlim=(0, 1), ylim=(0, 1.1), xlabel="confidence of the first cause")
    axes[0, 0].set_ylabel("share that is right")
    return figure


def causes_in(confusions: Mapping[str, Mapping[str, Mapping[str, int]]]) -> tuple[list, list]:
    """Return what was there and what was answered, by name, what is no cause at the end."""
    there = {name for found in confusions.values() for name in found}
    answered = {name for found in confusions.values() for row in found.values() for name in row}

    def order(names: set[str]) -> list[str]:
        return sorted(names, key=lambda name: (name in ENDS, name))

    return order(there), order(answered | there)


def _diagonal(found: Mapping[str, Mapping[str, int]]) -> str:
    """Say how many are answered by their own name: causes, and apart from them what is normal."""
    said = []
    for word, names in (("causes", set(found) - {NORMAL}), (NORMAL, set(found) & {NORMAL})):
        own = sum(found[name].get(name, 0) for name in names)
        said.append(f"{word} {own} of {sum(sum(found[name].values()) for name in names)}")
    return ", ".join(said)


def draw_confusion(facts: Facts) -> plt.Figure:
    """Draw counts of the first answers to each injected cause, coloured by share of the row."""
    confusions = {name: facts["confusion"][name] for name in OURS if facts["confusion"].get(name)}
    rows, columns = causes_in(confusions)
    figure, axes = plt.subplots(
        1, max(len(confusions), 1), figsize=(11.5, 5.2), sharey=True, squeeze=False
    )
    for axis, (judge, found) in zip(axes[0], confusions.items(), strict=False):
        counts = np.array([[found.get(r, {}).get(c, 0) for c in columns] for r in rows])
        totals = counts.sum(axis=1)
        axis.imshow(counts / np.maximum(totals, 1)[:, None], cmap="Blues", vmin=0, vmax=1.4)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                weight = "bold" if rows[row] == columns[column] else "normal"
                axis.text(
                    column, row, count, ha="center", va="center", fontsize=7, fontweight=weight
                )
        axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(rows)), rows, fontsize=7)
        axis.tick_params(length=0)
        axis.set_title(f"{judge}: {_diagonal(found)} on the diagonal")
        axis.set_xlabel("first answer")
    axes[0, 0].set_ylabel("injected and come true")
    return figure


PICTURES = {
    "fluctuation_reliability": ("reliability", draw_reliability),
    "fluctuation_confusion": ("confusion", draw_confusion),
}


def digest_of(figures: Any) -> str:
    """Return what tells whether a picture shows these figures."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()


def shown_in(path: Path) -> str:
    """Return the digest that a picture holds, empty where it holds none."""
    with Image.open(path) as picture:
        return str(picture.info.get(DIGEST, ""))


def draw_all(results: Mapping[str, Any], folder: Path) -> None:
    """Write every picture into a folder."""
    facts = results["environment"]
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        for name, (key, draw) in PICTURES.items():
            figure = draw(facts)
            path = folder / f"{name}.png"
            figure.savefig(path, metadata={DIGEST: digest_of(facts[key])})
            plt.close(figure)
            print(f"wrote {path}")


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file of results")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where pictures go")
    options = parser.parse_args()
    draw_all(json.loads(options.results.read_text()), options.folder)


if __name__ == "__main__":
    main()
