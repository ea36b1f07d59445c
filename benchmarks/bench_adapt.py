"""Compares `adapt` on another robot's windows with the unchanged model and simple alternatives.

Three tasks. ``same fleet``: a model trained on the ten robots of `load_surfaces`, and new robots of
that fleet (SIMULATED). ``other kind``: the same model, and robots that are heavier, with a
different motor, larger wheels and a different current sensor (SIMULATED). ``terrain``: BorealTC,
with one recording of each class left out as if it came from another robot; this task needs the
prepared file of docs/borealtc.md.

A draw labels 1, 5 or 20 consecutive windows of each class, but never more than two thirds of a
class. The robot's other windows are for testing, except those that overlap labeled windows. The
settings of `adapt` were chosen on other robots and recordings. `few windows alone` and `old and few
windows` train new models.
"""

import argparse
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common.results_file import begin, write_results
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.datasets import load_surfaces
from sensorseq.io.prepared import read_windows, write_windows
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

sys.path.append(str(Path(__file__).resolve().parents[1] / "data" / "simulator"))
from simulate import Robot, draw_robot, simulate_fleet

COUNTS = (1, 5, 20)
FLEETS = {"same fleet": (21, False), "other kind": (31, True)}
N_ROBOTS, FIRST_ROBOT = 7, 4  # settings were chosen on robots 0 to 3, so these are left out
N_FOLDS, FIRST_FOLD = 5, 2  # settings were chosen on folds 0 and 1, so these are left out
FEWEST = 16  # a recording with fewer windows is never one of the new recordings
DRAWS = 4
Logits = np.ndarray


@dataclass
class Task:
    """A model, its training windows, and the windows of another robot."""

    name: str
    model: SensorLSTMClassifier
    old: WindowSet
    new: WindowSet


def fleet(seed: int, *, is_other: bool) -> list[Robot]:
    """Draw robots; if `is_other`, they differ from the default more than robots of a fleet do."""
    robots = []
    for number in range(N_ROBOTS):
        rng = np.random.default_rng([seed, number])
        robot = draw_robot(rng, f"robot_{seed}_{number:02d}")
        if is_other:
            robot = replace(
                robot,
                mass_kg=1.5 * robot.mass_kg,
                torque_constant_n_m_a=0.8 * robot.torque_constant_n_m_a,
                wheel_radius_m=1.15 * robot.wheel_radius_m,
                sensor_gain=1.2 * robot.sensor_gain,
                sensor_offset_a=robot.sensor_offset_a + 0.1,
            )
        robots.append(robot)
    return robots


def cut(recordings: Any, rate_hz: float = 20.0) -> WindowSet:
    """Cut recordings into windows of 5 s that do not overlap."""
    return PreparePipeline(sample_rate_hz=rate_hz, window_s=5.0, split=None).prepare(recordings)


def drive(robots: list[Robot], seed: int, count: int) -> list[Recording]:
    """Simulate `count` recordings of about a minute for each robot on each surface."""
    return simulate_fleet(robots, seed, count, 62.0, "{surface}_{robot}_{k}")


def trained(path: Path, old: WindowSet, seed: int) -> SensorLSTMClassifier:
    """Train a model with the defaults, or load the model that was trained earlier."""
    if not path.exists():
        model = SensorLSTMClassifier(random_state=seed)
        model.fit(old.X, old.y, groups=old.groups).save(path)
    return SensorLSTMClassifier.load(path)


def tasks(terrain: Path | None, models: Path) -> Iterator[Task]:
    """Yield every robot or recording to which a model is to be adapted."""
    old = cut(load_surfaces())
    model = trained(models / "surfaces.safetensors", old, 0)
    for name, (seed, is_other) in FLEETS.items():
        path = models / f"robots_{seed}.h5"
        if not path.exists():
            write_windows(path, cut(drive(fleet(seed, is_other=is_other), seed, 4)))
        new = read_windows(path)
        for robot in np.unique(new.groups)[FIRST_ROBOT:]:
            yield Task(name, model, old, new.take(new.groups == robot))
    if terrain is None:
        return
    every = read_windows(terrain)
    order = {}
    for label in np.unique(every.y):
        recordings, counts = np.unique(every.groups[every.y == label], return_counts=True)
        large = recordings[counts >= FEWEST]
        order[label] = np.random.default_rng(5).permutation(large)
    for fold in range(FIRST_FOLD, N_FOLDS):
        is_new = np.isin(every.groups, [recordings[fold] for recordings in order.values()])
        kept = every.take(~is_new)
        model = trained(models / f"terrain_{fold}.safetensors", kept, fold)
        yield Task("terrain", model, kept, every.take(is_new))


def draw(new: WindowSet, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of n consecutive windows of each class, and the rows to test on."""
    rng = np.random.default_rng([seed, n])
    few = []
    for label in np.unique(new.y):
        of_class = np.flatnonzero(new.y == label)
        recordings = rng.permutation(np.unique(new.recording_id[of_class]))
        place = {name: number for number, name in enumerate(recordings.tolist())}
        rank = [place[name] for name in new.recording_id[of_class].tolist()]
        order = of_class[np.lexsort((new.start_s[of_class], rank))]
        count = min(n, len(order) * 2 // 3)
        last = len(order) - count if len(recordings) == 1 else len(order) // len(recordings) - 1
        start = min(int(rng.integers(0, last + 1)), len(order) - count)
        few.append(order[start : start + count])
    rows = np.concatenate(few)
    window_s = new.n_timesteps / new.sample_rate_hz
    near = [
        np.any(
            (new.recording_id[rows] == new.recording_id[i])
            & (np.abs(new.start_s[rows] - new.start_s[i]) < 0.99 * window_s)
        )
        for i in range(len(new))
    ]
    return rows, np.flatnonzero(~np.array(near))


def own_statistics(model: Any, few: WindowSet) -> Any:
    """Return the model with its input scaled by the mean and deviation of the few windows."""
    moved = copy.copy(model)
    moved.scaler_ = fit_scaler(few.X)
    return moved


def logistic(model: Any, few: Logits, y: Any, test: Logits) -> Logits:
    """Fit a logistic regression on log-probabilities, with scikit-learn's defaults."""
    fitted = LogisticRegression(max_iter=300).fit(few, y)
    log_probabilities = np.full((len(test), len(model.classes_)), -30.0)
    log_probabilities[:, np.searchsorted(model.classes_, fitted.classes_)] = (
        fitted.predict_log_proba(test)
    )
    return log_probabilities


def logits_of(model: Any, windows: WindowSet) -> Logits:
    """Return the logarithm of the probabilities."""
    return np.log(np.maximum(model.predict_proba(windows.X), 1e-30))


def few_alone(few: WindowSet) -> Any:
    """Train a new model on the few windows, without validation if a class has fewer than five."""
    counts = np.unique(few.y, return_counts=True)[1]
    alone = SensorLSTMClassifier(random_state=0)
    if counts.min() < 5:
        alone.set_params(validation_fraction=0.0, features=None, refit=None)
    return alone.fit(few.X, few.y)


def together(task: Task, few: WindowSet) -> Any:
    """Train a new model on the old windows together with the few new ones."""
    X, y = np.concatenate([task.old.X, few.X]), np.concatenate([task.old.y, few.y])
    groups = np.concatenate([task.old.groups, few.groups])
    return SensorLSTMClassifier(random_state=0).fit(X, y, groups=groups)


def answers_of(task: Task, few: WindowSet, test: WindowSet) -> dict[str, Logits]:
    """Return the logits of each method for the test windows."""
    model = task.model
    restandardized = own_statistics(model, few)
    plain, moved = (
        (logits_of(fitted, few), logits_of(fitted, test)) for fitted in (model, restandardized)
    )
    return {
        "as it is": plain[1],
        "own mean and deviation": moved[1],
        "logistic regression on its log-probabilities": logistic(model, plain[0], few.y, plain[1]),
        "both": logistic(restandardized, moved[0], few.y, moved[1]),
        "adapt": logits_of(model.adapt(few.X, few.y), test),
        "few windows alone": logits_of(few_alone(few), test),
        "old and few windows": logits_of(together(task, few), test),
    }


def score(task: Task, logits: Logits, test: WindowSet) -> tuple[float, float]:
    """Return accuracy and log-loss."""
    truth = np.searchsorted(task.model.classes_, test.y)
    losses = -log_softmax(logits, axis=1)[np.arange(len(truth)), truth]
    return float((logits.argmax(axis=1) == truth).mean()), float(losses.mean())


def main() -> None:
    """Adapt to every robot, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--terrain", type=Path, help="the prepared file of docs/borealtc.md")
    parser.add_argument(
        "--models", type=Path, default=Path("build/adapt"), help="trained models and windows"
    )
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args()
    is_partial = options.terrain is None or options.draws < DRAWS
    code = begin(__file__, partial=is_partial)
    options.models /= code.digest  # models of other code are not loaded
    options.models.mkdir(parents=True, exist_ok=True)
    scores_by_method: dict[tuple[str, int, str], list[tuple[float, float, float, float]]] = {}
    seen: dict[str, int] = {}
    for task in tasks(options.terrain, options.models):
        seen[task.name] = number = seen.get(task.name, 0) + 1
        for n in COUNTS:
            for seed in range(options.draws):
                rows, test_rows = draw(task.new, n, seed)
                few, test = task.new.take(rows), task.new.take(test_rows)
                answers = answers_of(task, few, test)
                base = score(task, answers["as it is"], test)
                for name, logits in answers.items():
                    got = (*score(task, logits, test), *base)
                    scores_by_method.setdefault((task.name, n, name), []).append(got)
            print(task.name, number, n, flush=True)
    rows_of = []
    for (name, n, method), scores in scores_by_method.items():
        accuracy, loss, base, base_loss = np.array(scores).T
        row = {
            "task": name,
            "windows_per_class": n,
            "method": method,
            "n_draws": len(scores),
            "accuracy": float(accuracy.mean()),
            "gain": float((accuracy - base).mean()),
            "worst_gain": float((accuracy - base).min()),
            "best_gain": float((accuracy - base).max()),
            "log_loss": float(loss.mean()),
            "log_loss_gain": float((base_loss - loss).mean()),
        }
        rows_of.append(row)
        print(
            f"{name:12} {n:3} {method:46} {100 * row['accuracy']:5.1f} %"
            f" {100 * row['gain']:+6.1f} ({100 * row['worst_gain']:+.1f} to"
            f" {100 * row['best_gain']:+.1f})  {row['log_loss']:.3f}  {len(scores)} draws"
        )
    write_results("adapt", rows_of, code=code, partial=is_partial)


if __name__ == "__main__":
    main()
