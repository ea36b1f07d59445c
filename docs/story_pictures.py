"""Make the pictures of docs/fluctuating_lstm.md from the example's own windows and fits.

python docs/story_pictures.py
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import numpy as np

from sensorseq import SensorLSTMClassifier

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
IMAGES = HERE / "images"
EXAMPLE = HERE.parent / "examples" / "fluctuating_lstm.py"
BEFORE, AFTER, THIRD = "#9aa5b1", "#0b6bcb", "#d9480f"
STYLE = HERE / "pictures.mplstyle"
SIZE = {"hidden_size": 48, "max_epochs": 200}
FITS = {
    "as asked": ({}, BEFORE),
    "gradients clipped at 1": ({"max_grad_norm": 1.0}, THIRD),
    "cosine decay": ({"lr_schedule": "cosine"}, AFTER),
}


def load_example() -> ModuleType:
    """Import the example, which is not in a package."""
    spec = importlib.util.spec_from_file_location("fluctuating_lstm", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def windows(example: ModuleType) -> plt.Figure:
    """Draw a window of each family, with and without its noise."""
    rng = np.random.default_rng(1)
    figure, axes = plt.subplots(2, 3, figsize=(8.4, 3.2), sharex=True, sharey=True)
    for family, axis in enumerate(axes.flat):
        clean = example.wave(family, 1.0, 3.0)
        axis.plot(clean + example.NOISE * rng.standard_normal(len(clean)), color=BEFORE, lw=0.9)
        axis.plot(clean, color=AFTER, lw=1.2)
        axis.set_title(example.FAMILIES[family])
    for axis in axes[1]:
        axis.set_xlabel("step")
    return figure


def curves(example: ModuleType) -> plt.Figure:
    """Draw the loss of fixed training windows and the validation accuracy of complete fits."""
    case = example.draw_case()
    figure, axes = plt.subplots(2, 3, figsize=(8.4, 4.0), sharex=True, sharey="row")
    for (name, (change, color)), (above, below) in zip(FITS.items(), axes.T, strict=True):
        clf = SensorLSTMClassifier(**{**example.ASKED, **SIZE, **change}).fit(**case.fitted_on)
        outcome = example.measure(clf, case)
        print(f"{name:28}{example.line(outcome)}")
        above.plot(clf.fluctuation_.record.fixed_loss, color=color, lw=0.9)
        above.set_title(f"{name}\n+-{outcome.noise:.3f} nats per epoch")
        below.plot([row["val_accuracy"] for row in clf.history_], color=color, lw=0.9)
        below.set_xlabel("epoch")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("validation accuracy")
    return figure


PICTURES = {"fluctuating_lstm_windows": windows, "fluctuating_lstm_curves": curves}


def main() -> None:
    """Write all pictures."""
    example = load_example()
    for name, draw in PICTURES.items():
        with plt.style.context(STYLE):
            figure = draw(example)
            figure.savefig(IMAGES / f"{name}.png", metadata={"Software": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
