"""Load model files for prediction, which needs only numpy and the C++ core."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError, ModelFileError, check_choice, refusing
from sensorseq.io.model_file import SAVE_AGAIN, TakeField, arrays_below, read_model, take_field
from sensorseq.prediction.checked_windows import DTYPES
from sensorseq.prediction.members.sensors import read_rows
from sensorseq.prediction.model import TrainedModel, read_joint, read_trained
from sensorseq.prediction.network import LstmNetwork, array_prefix, check_array_names
from sensorseq.prediction.outside import NO_RANGES

Loaded = TypeVar("Loaded")


def load_classifier(path: str | os.PathLike[str], *, strict: bool = False) -> TrainedModel:
    """Load a classifier; with `strict`, it must contain the ranges of its training windows."""
    model = load(path)
    if strict and not model.has_ranges:
        raise InputError(f"{path}: {NO_RANGES}")
    return model


def load(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a model file written by an estimator's `save`. No code in the file is executed.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    TrainedModel
        The model, with `predict`, `predict_proba`, `predict_or_abstain`, `outside`, `timeline` and
        `stream`. On the same processor, results are bit-identical to those of the estimator.

    Raises
    ------
    ModelFileError
        If the file is truncated, damaged, from another program or from a newer version.

    Examples
    --------
    >>> load("terrain.safetensors").predict(windows)  # doctest: +SKIP
    """
    arrays, description = read_model(path)
    with refusing(ModelFileError, f"{path} is inconsistent", SAVE_AGAIN, but=ModelFileError):
        if "fusion" not in description:
            return _trained(arrays, description, path)
        take = partial(take_field, description, path=path)
        return read_joint(take, sensors_of(arrays, take, partial(_trained, path=path)))


def sensors_of(
    arrays: Mapping[str, NDArray[Any]], take: TakeField, read_sensor: Callable[..., Loaded]
) -> dict[str, Loaded]:
    """Return each sensor's model; `read_sensor` makes a model from arrays and a description."""
    fusion, descriptions = take("fusion", dict), take("sensors", list)
    read_rows(fusion)  # checks that the names and weights match
    sensors = fusion["sensors"]
    if len(descriptions) != len(sensors):
        raise ValueError(f"{len(descriptions)} models for {len(sensors)} sensors")
    return {
        name: read_sensor(arrays_below(arrays, f"sensor.{at}."), description)
        for at, (name, description) in enumerate(zip(sensors, descriptions))
    }


def _trained(
    arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], path: Any
) -> TrainedModel:
    """Return the model of one sensor from its arrays and description in a file."""
    take = partial(take_field, description, path=path)
    n_networks = 1 + len(take("other_histories", list))
    check_array_names(arrays, n_networks, path)
    architecture = take("architecture", dict)
    networks = [
        LstmNetwork(arrays_below(arrays, array_prefix(member)), architecture)
        for member in range(n_networks)
    ]
    dtype = np.dtype(check_choice("dtype", take("dtype", str), DTYPES))
    for network in networks:
        if network.dtype != dtype:
            raise ValueError(f"the weights are {network.dtype}")
    model = read_trained(arrays, take).with_lstm(networks=networks)
    model.lstm.check(model.n_channels, len(model.classes))
    return model
