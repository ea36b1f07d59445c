"""FittedLSTM: what a fitted estimator has learned, predicts and writes to a file."""

import importlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sensorseq.diagnosis.level import compare_level
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError, ModelFileError, check_choice, refusing
from sensorseq.estimator.adapt import Adaptation
from sensorseq.estimator.model import (
    pack_state,
    reorder_outputs,
    split_single_logit,
    unpack_state,
)
from sensorseq.estimator.reading import WindowReader
from sensorseq.estimator.report import make_report
from sensorseq.export.to_onnx import write_onnx
from sensorseq.history import History, TrainingRecord
from sensorseq.io.model_file import (
    SAVE_AGAIN,
    describe_labels,
    read_model,
    take_field,
    write_model,
)
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.prediction.ensemble import Ensemble
from sensorseq.prediction.head import FeatureChoice
from sensorseq.prediction.inputs import DTYPES, Sequences
from sensorseq.prediction.network import check_array_names
from sensorseq.prediction.predictor import check_texts
from sensorseq.prediction.probabilities import Abstention
from sensorseq.preprocessing.configuration import check_recorded
from sensorseq.preprocessing.windows.augment import Augmentation
from sensorseq.training import EngineChoice
from sensorseq.training.inference import ModuleNetwork, outputs_of
from sensorseq.training.network import ARCHITECTURE, network_arrays, read_network
from sensorseq.training.parameters import check_device, check_parameters, check_plain
from sensorseq.training.stream import StreamedData, is_stored


class FittedLSTM(WindowReader):
    """The learned state of an estimator, with prediction and files."""

    temperature_: float
    abstention_: Abstention
    adaptation_: Adaptation | None = None
    module_: LSTMLinear
    history_: History
    engine_: EngineChoice
    features_: FeatureChoice
    refitted_: bool
    n_iter_: int
    best_epoch_: int
    best_score_: float
    _other_modules: list[LSTMLinear]
    _other_histories: list[History]
    # rows and outputs of the held-out part, from before any refit
    _held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    _replayed: int | None = None  # entropy of a fit to run again
    _report_facts: dict[str, Any]

    @property
    def fluctuation_(self) -> FluctuationReport:
        """The report; its first use compares the network with what the data allow."""
        own = self.__dict__
        if "sensors_" in own:
            name = next(iter(self.sensors_))
            raise AttributeError(
                f"the model of each sensor has a report of its own: sensors_[{name!r}].fluctuation_"
            )
        if "fluctuation_" not in own:
            raise AttributeError(f"{type(self).__name__} has no fluctuation_ before fit.")
        if own.get("_to_compare") is not None:
            own["fluctuation_"] = compare_level(own["fluctuation_"], *own["_to_compare"])
            own["_to_compare"] = None
        report: FluctuationReport = own["fluctuation_"]
        return report

    @fluctuation_.setter
    def fluctuation_(self, report: FluctuationReport) -> None:
        self.__dict__ |= {"fluctuation_": report, "_to_compare": None}

    @property
    def modules_(self) -> list[LSTMLinear]:
        """The networks of all members; `module_` is the first."""
        return [self.module_, *self.__dict__.get("_other_modules", ())]

    @property
    def _used_modules(self) -> list[LSTMLinear]:
        """The networks in use: none if features decide alone."""
        is_without = self._head is not None and not self._head.lstm_weight
        return [] if is_without else self.modules_

    @property
    def _ensemble(self) -> Ensemble:
        """The ensemble that computes the outputs."""
        return Ensemble(
            [ModuleNetwork(module, self.device) for module in self._used_modules],
            self.module_.num_classes,
            self.patch_,
            self._head,
        )

    @property
    def histories_(self) -> list[History]:
        """One history for each member; `history_` is the first."""
        return [self.history_, *self.__dict__.get("_other_histories", ())]

    def _logits(self, sequences: Sequences) -> NDArray[np.float64]:
        if is_stored(sequences):
            part = self._format.stored(sequences, training=False)
            return outputs_of(self._ensemble, StreamedData(part, np.zeros(len(part), np.int64)))
        return super()._logits(sequences)

    def plot_history(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Plot the curves of the last fit with matplotlib, the kept epoch and sampling error.

        Parameters
        ----------
        path : str or path, optional
            File to write the figure to.
        """
        from sensorseq.diagnosis.page import draw_history  # matplotlib is an extra

        self._check_single("plot_history")
        return draw_history(
            self.history_,
            n_val=self._report_facts["n_val"],
            best_epoch=self.best_epoch_,
            path=None if path is None else Path(path),
            loss_unit="nats" if self.loss == "cross_entropy" else "",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        It contains weights, scaling, classes, history, report and all arguments. The file appears
        only when it is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that cannot be stored without executing
            code when it is read.
        """
        check_is_fitted(self)
        write_model(path, *self._stored())

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        lengths: bool | None = None,
        steps: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Write an ONNX model that computes `predict_proba`.

        The graph takes windows as they are given to `fit`, and contains cropping, scaling, all
        networks, `features`, and the temperature. It has opset 17 and runs in onnxruntime 1.15 or
        later. Windows have to be prepared as in training; see `steps`. Metadata say how, and have
        classes, channels, units, sample rate and the SHA-256 of the model file. Needs the extra
        ``onnx``.

        Of several sensors, one graph has an input ``X_<sensor>`` for each, and a window with NaN in
        it lacks that sensor. Windows without any, or without one that the model cannot do without,
        get probabilities of NaN. The metadata ``sensors`` say what the input of
        each is. What `missing` says of gaps and failed sensors is not in the graph: it bridges no
        gap, and windows of one sensor must be without NaN.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        n_timesteps : int, optional
            Number of steps of every window, which lets onnxruntime prepare more in advance. By
            default the graph takes windows of any number of steps. Not of several sensors.
        lengths : bool, optional
            Whether the graph has the input ``lengths`` (n,), int64, the valid steps of each window,
            1 to t; of several sensors ``lengths_<sensor>``. By default it has it if windows of the
            fit differed in length.
        steps : bool, default=False
            Let the graph take windows of samples before the steps of the preparation, at the
            model's rate, and contain these steps. Products, power, differences of channels, signed
            channels and magnitudes can be exported. Steps that depend on earlier samples, such as
            filters, are refused by name.
        dtype : {"float32", "float64"}, default="float32"
            Type of the input ``X``, of shape (n, t, c), or (n, t) after a fit on a table. The
            output, ``probabilities`` (n, n_classes), is float32.

        Raises
        ------
        InputError
            If the model has something that the graph cannot compute: ``normalize="recording"``,
            ``scale="quantile"``, a function of your own as `features`, or
            more than ten sensors.
        EnvironmentProblemError
            If the library onnx is missing.
        """
        self._check_fitted()
        options: dict[str, Any] = {"n_timesteps": n_timesteps, "lengths": lengths, "dtype": dtype}
        write_onnx(self, path, **options, steps=steps, stored=self._stored)

    def _stored(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and the description for a model file."""
        arrays, description = self._stored_network()
        return arrays, {**description, "fluctuation": self.fluctuation_.to_dict()}

    def _stored_network(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the same without the report, which takes long to make."""
        arrays = network_arrays(self.modules_, self.scaler_)
        for part in (self.patch_, self._head, self._ranges):
            if part is not None:
                arrays |= part.arrays()
        return arrays, self._description()

    def _description(self) -> dict[str, Any]:
        """Return everything except arrays and the report for a model file."""
        head = None if self._head is None else self._head.description()
        parameters = self.get_params(deep=False)
        if isinstance(parameters["augment"], Augmentation):
            parameters["augment"] = parameters["augment"].to_dict()
        if isinstance(parameters["checkpoint"], os.PathLike):
            parameters["checkpoint"] = os.fspath(parameters["checkpoint"])
        check_plain(parameters)
        module = self.module_
        return {
            "parameters": parameters,
            **self._describe_classes(),
            "n_channels": self._n_channels,
            "patch": None if self.patch_ is None else self.patch_.n_samples,
            "n_features_in": self.n_features_in_,
            "flat_timesteps": self._flat_timesteps,
            "n_timesteps": self._n_timesteps,
            "were_lengths": self._were_lengths,
            "feature_names_in": (
                self.feature_names_in_.tolist() if hasattr(self, "feature_names_in_") else None
            ),
            "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
            "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
            "history": self.history_.to_rows(),
            "other_histories": [history.to_rows() for history in self.histories_[1:]],
            "best_epoch": self.best_epoch_,
            "best_score": self.best_score_,
            "engine": list(self.engine_),
            "report_facts": {
                name: fact for name, fact in self._report_facts.items() if name != "data_facts"
            },
            "preparation": self.preparation_,
            "refitted": getattr(self, "refitted_", False),
            "features": head,
            "versions": {
                "sensorseq": importlib.import_module("sensorseq").__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    def _describe_classes(self) -> dict[str, Any]:
        """Return what is predicted, for the model file."""
        return {
            "classes": describe_labels(self.classes_),
            "temperature": self.temperature_,
            "abstention": list(self.abstention_) if hasattr(self, "abstention_") else None,
            "class_shares": None if self._shares is None else self._shares.tolist(),
            "adaptation": None if self.adaptation_ is None else dict(vars(self.adaptation_)),
        }

    @classmethod
    def from_torch(
        cls,
        lstm: Any,
        linear: Any,
        *,
        pooling: str = "last",
        classes: ArrayLike | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a fitted estimator with the weights of a `torch.nn.LSTM` and a linear layer.

        It expects windows scaled as for that network; `scaler_` is None.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            With biases and without projection.
        linear : torch.nn.Linear
            Gives the logits. A single logit is that of the second class against the first.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            The pooling between the two.
        classes : array-like of shape (n_classes,), optional
            Label of each logit; 0 to k - 1 by default.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Raises
        ------
        ArgumentError
            If a layer has no bias or has a projection, or the sizes do not match.
        """
        module = LSTMLinear.from_torch(lstm, linear, pooling)
        return cls._imported(module, "linear", arguments, classes, "torch.nn.LSTM")

    @classmethod
    def from_keras(cls, model: Any, *, classes: ArrayLike | None = None, **arguments: Any) -> Self:
        """Return a fitted estimator with the weights of a Keras model.

        It expects windows scaled as for that model; `scaler_` is None. An ArgumentError names a
        layer that is of another kind or computes something else.

        Parameters
        ----------
        model : keras.Model
            A chain of LSTM or Bidirectional(LSTM) layers, at most one global pooling over time, and
            a Dense layer with softmax, logits or one sigmoid unit. Keras is not imported; only
            `layers`, `get_config()` and `get_weights()` are used.
        classes, **arguments
            As in `from_torch`.
        """
        module, activation = lstm_linear_from_keras(model)
        return cls._imported(module, activation, arguments, classes, "Keras")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted estimator written by `save`. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Overrides the saved `device`, such as ``"cpu"`` for a model trained on a GPU.

        Raises
        ------
        ModelFileError
            If the file is truncated, damaged, from another program or from a newer version.
        """
        if device is not None:
            check_device(device)
        arrays, description = read_model(path)
        with refusing(ModelFileError, f"{path} is inconsistent", SAVE_AGAIN, but=ModelFileError):
            return cls._restored(arrays, description, path, device)

    @classmethod
    def _restored(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        path: str | os.PathLike[str],
        device: str | None,
    ) -> Self:
        """Rebuild an estimator from the contents of the file at `path`."""

        def take(name: str, kind: Any) -> Any:
            return take_field(description, name, kind, path)

        others = take("other_histories", list)
        take("versions", dict)  # used in messages only
        check_array_names(arrays, 1 + len(others), path)
        estimator = cls(**take("parameters", dict))
        check_parameters(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        estimator._restore(arrays, take)
        if estimator.preparation_ is not None:
            check_recorded(estimator.preparation_["configuration"] or {})
        estimator._n_timesteps = take("n_timesteps", (int, type(None)))
        estimator.history_ = History(take("history", list))
        estimator.n_iter_ = len(estimator.history_)
        estimator.best_epoch_ = take("best_epoch", int)
        estimator.best_score_ = take("best_score", float)
        estimator.engine_ = EngineChoice(*check_texts("engine", take("engine", list)))
        estimator._report_facts = take("report_facts", dict)
        estimator._make_report()  # even if the file has a report, this checks its inputs
        if "fluctuation" in description:
            try:
                stored = take("fluctuation", dict)
                estimator.fluctuation_ = FluctuationReport._from_dict(stored, is_page=False)
            except ArgumentError as error:
                raise ModelFileError(f"{path}: {error}") from error
        estimator._restore_networks(arrays, take, others)
        estimator.refitted_ = take("refitted", bool)
        alone = description.get("alone", "loaded from a file without features")
        estimator.features_ = FeatureChoice(reason=check_texts("alone", [alone])[0])
        if estimator._head is not None:
            estimator.features_ = estimator._head.choice
        return estimator

    def _restore_networks(
        self,
        arrays: Mapping[str, NDArray[Any]],
        take: Callable[[str, Any], Any],
        others: list[list[dict[str, Any]]],
    ) -> None:
        """Restore the networks; `others` are all histories but the first."""
        self._other_histories = [History(rows) for rows in others]
        n_channels, patch = self._n_channels, self.patch_
        self.module_, *self._other_modules = (
            read_network(
                arrays,
                take("architecture", dict),
                n_channels=n_channels if patch is None else patch.n_inputs(n_channels),
                n_classes=self._n_outputs,
                dtype=check_choice("dtype", take("dtype", str), DTYPES),
                member=member,
            )
            for member in range(1 + len(others))
        )

    @classmethod
    def _imported(
        cls,
        module: LSTMLinear,
        activation: str,
        arguments: Mapping[str, Any],
        classes: ArrayLike | None,
        source: str,
    ) -> Self:
        """Return an estimator that predicts with an imported network."""
        for name in (*ARCHITECTURE, "dtype", "scale"):
            if arguments.get(name) is not None:
                why = (
                    "there is no data to fit it on"
                    if name == "scale"
                    else "the network determines it"
                )
                raise ArgumentError(f"{name}={arguments[name]!r} cannot be set here: {why}.")
        if module.linear.weight.dtype not in (torch.float32, torch.float64):
            module = module.float()
        own = {name: getattr(module, name) for name in ARCHITECTURE}
        own["dtype"] = str(module.linear.weight.dtype).removeprefix("torch.")
        estimator = cls(**{**arguments, **own, "scale": None})
        estimator._import_classes(module, activation, classes)
        estimator.n_features_in_ = module.input_size
        estimator._flat_timesteps = None
        estimator.scaler_ = None
        estimator.preparation_ = None
        estimator.history_ = History()
        estimator.n_iter_ = estimator.best_epoch_ = 0
        estimator.best_score_ = float("nan")
        estimator.engine_ = EngineChoice("none", f"the weights were taken from {source}")
        estimator._report_facts = {"n_val": None, "n_train": None}
        estimator.module_ = module.eval()
        estimator._make_report()
        return estimator

    def _import_classes(self, module: LSTMLinear, activation: str, classes: Any) -> None:
        """Set the classes of an imported network, and sort its outputs like them."""
        if activation == "sigmoid" and module.num_classes > 1:
            raise ArgumentError(
                f"the Keras model ends in {module.num_classes} sigmoid units, which can predict"
                " several classes at once; this classifier predicts one class per window."
            )
        split_single_logit(module)
        labels = np.arange(module.num_classes) if classes is None else np.asarray(classes)
        if labels.shape != (module.num_classes,) or len(np.unique(labels)) != len(labels):
            raise ArgumentError(
                f"classes={classes!r}, but the network has {module.num_classes} outputs; give one"
                " distinct label per output, in their order."
            )
        # The outputs are reordered with the labels, because classes_ is sorted.
        order = np.argsort(labels)
        reorder_outputs(module, order)
        self.classes_ = labels[order]
        self.temperature_ = 1.0

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_") or hasattr(self, "sensors_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    def __getstate__(self) -> dict[str, Any]:
        if "fluctuation_" in self.__dict__:
            # Compare the report first, which needs the windows that a pickle lacks.
            _ = self.fluctuation_
        return pack_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack_state(state))
        if (
            hasattr(self, "history_")
            and "sensors_" not in state
            and not hasattr(self, "fluctuation_")
        ):
            self._make_report()

    def _make_report(self, record: TrainingRecord | None = None) -> None:
        self.fluctuation_ = make_report(
            self.history_,
            self.loss,
            best_epoch=self.best_epoch_ or None,
            record=record,
            arguments=self.get_params(deep=False),
            **self._report_facts,
        )
