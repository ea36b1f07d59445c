"""Tune a classifier with Optuna on the simulated robots, and prune poor trials early.

Every trial is scored on the robots of the validation part; the best classifier is scored once on
the robots of the test part. A callback reports `val_loss` after each epoch, so that Optuna can
prune poor trials.

    python examples/optuna_search.py --trials 12
"""

import argparse

import optuna

from sensorseq import PreparePipeline, SensorLSTMClassifier, WindowSet
from sensorseq.datasets import load_surfaces


class PruneByValidationLoss:
    """Report each epoch's `val_loss` to a trial, and end the fit when Optuna prunes the trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_epoch_end(self, module, history) -> None:
        """Report the last row of the history."""
        row = history[-1]
        self.trial.report(row["val_loss"], row["epoch"])
        if self.trial.should_prune():
            raise optuna.TrialPruned


def make_windows(surfaces: list[str]) -> WindowSet:
    """Cut the embedded recordings into windows, split by robot into train, validation and test."""
    recordings = [recording for recording in load_surfaces() if recording.label in surfaces]
    pipeline = PreparePipeline(window_s=5.0, sample_rate_hz=20.0, split=(0.6, 0.2, 0.2))
    return pipeline.prepare(recordings)


def make_classifier(parameters: dict, epochs: int, callbacks: list | None = None):
    """Return a classifier with the parameters of a trial."""
    return SensorLSTMClassifier(
        **parameters,
        max_epochs=epochs,
        early_stopping=True,
        patience=8,
        features=None,  # the network alone is tuned: one training run for each trial
        refit=None,
        callbacks=callbacks,
        random_state=0,
    )


def search(windows: WindowSet, n_trials: int, epochs: int) -> optuna.Study:
    """Minimize the best `val_loss` of a fit."""

    def objective(trial: optuna.Trial) -> float:
        parameters = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True),
            "hidden_size": trial.suggest_categorical("hidden_size", [8, 16, 32]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }
        clf = make_classifier(parameters, epochs, [PruneByValidationLoss(trial)])
        return clf.fit(windows).best_score_

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=4),
    )
    study.optimize(objective, n_trials=n_trials)
    return study


def main() -> None:
    """Search, train the best classifier again, and test it on robots not used before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12, help="number of trials (default: 12)")
    parser.add_argument(
        "--epochs", type=int, default=25, help="maximum epochs per trial (default: 25)"
    )
    parser.add_argument(
        "--surfaces",
        default="carpet,grass,gravel,ice,paving,sand",
        help="surfaces, separated by commas (default: all)",
    )
    arguments = parser.parse_args()
    windows = make_windows(arguments.surfaces.split(","))
    study = search(windows, arguments.trials, arguments.epochs)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
    print(f"{len(study.trials)} trials, {pruned} of them pruned (SIMULATED recordings)")
    print(f"best val_loss  {study.best_value:.4f}")
    for name, value in study.best_params.items():
        print(f"  {name:14} {value:.4g}" if isinstance(value, float) else f"  {name:14} {value}")
    best = make_classifier(study.best_params, arguments.epochs).fit(windows)
    print(f"test accuracy  {best.score(windows.part('test')):.3f}, on robots not used before")


if __name__ == "__main__":
    main()
