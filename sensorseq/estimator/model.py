"""A fitted estimator as the description of a model file, and back."""

import importlib
import os
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, ModelFileError, check_choice
from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.history import History
from sensorseq.preprocessing.augment import Augmentation
from sensorseq.storage.model_file import take_field
from sensorseq.training import EngineChoice
from sensorseq.training.config import CLASSIFICATION, DTYPES
from sensorseq.training.network import check_array_names, read_network, read_scaler
from sensorseq.training.parameters import ARCHITECTURE, check_parameters, check_plain
from sensorseq.training.preparation import check_preparation


def describe_fit(estimator: Any) -> dict[str, Any]:
    """Return everything but the arrays."""
    head = None if estimator._head is None else estimator._head.description()
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["augment"], Augmentation):
        parameters["augment"] = parameters["augment"].to_dict()
    if isinstance(parameters["checkpoint"], os.PathLike):
        parameters["checkpoint"] = os.fspath(parameters["checkpoint"])
    check_plain(parameters)
    module = estimator.module_
    return {
        "task": estimator._task,
        "parameters": parameters,
        **estimator._describe_targets(),
        "n_channels": module.input_size,
        "n_features_in": estimator.n_features_in_,
        "flat_timesteps": estimator._flat_timesteps,
        "feature_names_in": (
            estimator.feature_names_in_.tolist()
            if hasattr(estimator, "feature_names_in_")
            else None
        ),
        "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
        "history": estimator.history_.to_rows(),
        "other_histories": [history.to_rows() for history in estimator.histories_[1:]],
        "best_epoch": estimator.best_epoch_,
        "best_score": estimator.best_score_,
        "engine": list(estimator.engine_),
        "report_facts": {
            name: fact for name, fact in estimator._report_facts.items() if name != "data_facts"
        },
        "fluctuation": estimator.fluctuation_.to_dict(),
        "preparation": estimator.preparation_,
        "refitted": getattr(estimator, "refitted_", False),
        "features": head,
        "versions": {
            "sensorseq": importlib.import_module("sensorseq").__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def restore_fit(
    cls: Any,
    arrays: Mapping[str, NDArray[Any]],
    description: Mapping[str, Any],
    path: Any,
    device: str | None,
) -> Any:
    """Rebuild what `describe_fit` described, of class `cls`."""

    def take(name: str, kind: Any) -> Any:
        return take_field(description, name, kind, path)

    others = take("other_histories", list)
    check_array_names(arrays, 1 + len(others), path)
    task = take("task", str)
    if task != cls._task:
        raise ModelFileError(
            f"{path} holds a model for {task}, which {cls.__name__} cannot load; load it with"
            f" {'SensorLSTMClassifier' if task == CLASSIFICATION else 'SensorLSTMRegressor'}."
        )
    parameters = take("parameters", dict)
    head = take("features", dict | None)
    if task == CLASSIFICATION and head is None and "features" not in parameters:
        parameters |= {"features": None, "refit": None}  # files of versions 1 and 2
    estimator = cls(**parameters)
    check_parameters(estimator.get_params(deep=False), task)
    if device is not None:
        estimator.device = device
    estimator._restore_targets(take)
    estimator.n_features_in_ = take("n_features_in", int)
    estimator._flat_timesteps = take("flat_timesteps", int | None)
    names = take("feature_names_in", list | None)
    if names is not None:
        estimator.feature_names_in_ = np.array(_texts("feature_names_in", names), dtype=object)
    estimator.scaler_ = read_scaler(arrays)
    estimator.history_ = History(take("history", list))
    estimator.n_iter_ = len(estimator.history_)
    estimator.best_epoch_ = take("best_epoch", int)
    estimator.best_score_ = take("best_score", float)
    estimator.engine_ = EngineChoice(*_texts("engine", take("engine", list)))
    estimator._report_facts = take("report_facts", dict)
    if task == CLASSIFICATION:  # files of the first version did not repeat it there
        estimator._report_facts.setdefault("n_classes", len(estimator.classes_))
    estimator.preparation_ = check_preparation(take("preparation", dict | None))
    estimator._make_report()  # also of a file that brings it: it checks what it is made of
    if "fluctuation" in description:
        try:
            estimator.fluctuation_ = FluctuationReport.from_dict(take("fluctuation", dict))
        except ArgumentError as error:
            raise ModelFileError(f"{path}: {error}") from error
    n_channels = take("n_channels", int)
    flat = estimator._flat_timesteps
    if (n_channels, estimator.n_features_in_) != (1 if flat else n_channels, flat or n_channels):
        raise ValueError(
            f"n_features_in={estimator.n_features_in_} with n_channels={n_channels} and"
            f" flat_timesteps={flat}"
        )
    estimator._other_histories = [History(rows) for rows in others]
    estimator.module_, *estimator._other_modules = (
        read_network(
            arrays,
            take("architecture", dict),
            n_channels=n_channels,
            n_classes=estimator._n_outputs,
            dtype=check_choice("dtype", take("dtype", str), DTYPES),
            member=member,
        )
        for member in range(1 + len(others))
    )
    estimator.refitted_ = take("refitted", bool)
    estimator.features_ = FeatureChoice(reason="loaded from a file without features")
    if head is not None:
        estimator._head = FeatureHead.restore(head, arrays)
        estimator._head.check(n_channels, estimator._n_outputs)
        estimator.features_ = estimator._head.choice
    return estimator


def _texts(name: str, values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}, expected text")
    return values
