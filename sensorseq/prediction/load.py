"""Load a model file to predict with, by numpy and the C++ core alone."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_integer
from sensorseq.errors import InputError, ModelFileError, check_choice, refusing
from sensorseq.io.model_file import SAVE_AGAIN, arrays_below, read_model, take_field
from sensorseq.prediction.decisions import ClassPredictor
from sensorseq.prediction.ensemble import Ensemble
from sensorseq.prediction.fusion import MISSING
from sensorseq.prediction.inputs import CROPS, DTYPES
from sensorseq.prediction.network import LstmNetwork, array_prefix, check_array_names
from sensorseq.prediction.predictor import NO_RANGES


class TrainedClassifier(ClassPredictor):
    """A classifier of a model file; it has the methods that predict of `SensorLSTMClassifier`."""

    networks: list[LstmNetwork]

    @property
    def _ensemble(self) -> Ensemble:
        return Ensemble(self.networks, self._n_outputs, self.patch_, self._head)

    def _load(
        self, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], path: Any
    ) -> None:
        def take(name: str, kind: Any) -> Any:
            return take_field(description, name, kind, path)

        parameters = take("parameters", dict)
        self.max_timesteps, self.crop = parameters["max_timesteps"], parameters["crop"]
        if self.max_timesteps is not None:
            check_integer("max_timesteps", self.max_timesteps, 1)
        check_choice("crop", self.crop, CROPS)
        self.dtype = check_choice("dtype", parameters["dtype"], DTYPES)
        self._read_parameters(parameters)
        self._restore(arrays, take)
        n_networks = 1 + len(take("other_histories", list))
        check_array_names(arrays, n_networks, path)
        architecture = take("architecture", dict)
        self.networks = [
            LstmNetwork(arrays_below(arrays, array_prefix(member)), architecture)
            for member in range(n_networks)
        ]
        for network in self.networks:
            self._check_network(network)
            if network.dtype != np.dtype(check_choice("dtype", take("dtype", str), DTYPES)):
                raise ValueError(f"the weights are {network.dtype}")
        if self._head is not None and not self._head.lstm_weight:
            self.networks = []  # features decide alone

    def _read_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Keep the arguments of the fit that predictions depend on."""
        self.missing = check_choice("missing", parameters.get("missing", "error"), MISSING)

    def __repr__(self) -> str:
        if self._fusion is not None:
            return f"<{type(self).__name__}: sensors {', '.join(self.sensors_)}>"
        return f"<{type(self).__name__}: {self._n_channels} channels, {self._n_outputs} outputs>"


def load_classifier(path: str | os.PathLike[str], *, strict: bool = False) -> TrainedClassifier:
    """Load a classifier; with `strict`, only one that stores the range of its training data."""
    model = load(path)
    if strict and not model._knows_ranges:
        raise InputError(f"{path}: {NO_RANGES}")
    return model


def load(path: str | os.PathLike[str]) -> TrainedClassifier:
    """Load a model file that `save` of an estimator wrote. Nothing in it is executed.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    TrainedClassifier
        With `predict`, `predict_proba`, `predict_or_abstain`, `outside`, `timeline` and `stream`,
        which give the bits that the estimator gives on this processor.

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
        return _made(arrays, description, path)


def _made(
    arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], path: Any
) -> TrainedClassifier:
    """Return the model that a file describes, or that of one of its sensors."""
    model = TrainedClassifier()
    if "fusion" in description:
        model._restore_sensors(
            arrays,
            partial(take_field, description, path=path),
            lambda own, described: _made(own, described, path),
        )
        model._read_parameters(take_field(description, "parameters", dict, path))
    else:
        model._load(arrays, description, path)
    return model
