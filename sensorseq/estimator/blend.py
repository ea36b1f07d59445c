"""SensorBlendClassifier: the network, ridge regression and boosted trees as one classifier."""

import os
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from sensorseq.data_checks import OutsideWindows
from sensorseq.errors import ArgumentError
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.feature_head import BOOSTING, LINEAR, is_classifier
from sensorseq.export.c_source import CExport

MEMBERS = {"ridge": LINEAR, BOOSTING: (BOOSTING,)}


class SensorBlendClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Classify windows with a network, ridge regression and boosted trees, weighed on folds.

    The network is a `SensorLSTMClassifier`. Ridge regression on random convolutions and on steps of
    summary statistics, and gradient boosting on summary statistics, join it. The log-probabilities
    of each member are weighed by the log-loss of windows left out, in whole groups, so that an
    overconfident member counts less, and one that adds nothing not at all.

    Use it where accuracy comes first. The model is larger than a network alone, and needs
    scikit-learn's boosting for training, not for prediction.

    Parameters
    ----------
    estimators : "auto" or list, default="auto"
        Members beside the network: ``"ridge"``, ``"boosting"``, or classifiers of scikit-learn's
        interface, which are fitted on `sensorseq.features.SummaryFeatures` of the scaled windows
        (without weights if their `fit` takes no `sample_weight`, such as a pipeline's).
        ``"auto"`` is ``["ridge", "boosting"]``.
    network : SensorLSTMClassifier, optional
        Unfitted, with the arguments of the network; its `features` are replaced. Its own defaults
        if None.
    random_state : int, RandomState or None, default=None
        As in `SensorLSTMClassifier`; replaces that of `network` unless None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the columns of `predict_proba`.
    n_features_in_ : int
        As in `SensorLSTMClassifier`.
    network_ : SensorLSTMClassifier
        The fitted whole: its `features_` say what each member does alone and together.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorBlendClassifier, SensorLSTMClassifier
    >>> t = np.arange(40)
    >>> X = np.stack([np.sin(t * (0.3 if i % 2 else 0.9) + i) for i in range(60)])
    >>> y = np.array(["fast", "slow"] * 30)
    >>> network = SensorLSTMClassifier(hidden_size=8, max_epochs=10)
    >>> SensorBlendClassifier(network=network, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    classes_: NDArray[Any]
    n_features_in_: int
    network_: SensorLSTMClassifier

    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__predict_proba: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    def __init__(
        self,
        estimators: Any = "auto",
        network: SensorLSTMClassifier | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.network = network
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: ArrayLike | None = None,
        lengths_val: ArrayLike | None = None,
    ) -> Self:
        """Train all members and weigh them.

        Parameters
        ----------
        X, y, sample_weight, groups, lengths, X_val, y_val, groups_val, lengths_val
            As in `SensorLSTMClassifier.fit`.

        Raises
        ------
        ArgumentError
            If `estimators` or `network` is not as described.
        InputError
            If the data cannot be used.
        """
        network = self._make_network()
        network.fit(
            X,
            y,
            sample_weight,
            groups=groups,
            lengths=lengths,
            X_val=X_val,
            y_val=y_val,
            groups_val=groups_val,
            lengths_val=lengths_val,
        )
        self._keep(network)
        return self

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X, lengths : as in `SensorLSTMClassifier.predict`
        """
        check_is_fitted(self)
        return self.network_.predict(X, lengths)

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return class probabilities, columns in the order of `classes_`.

        Parameters
        ----------
        X, lengths : as in `SensorLSTMClassifier.predict_proba`
        """
        check_is_fitted(self)
        return self.network_.predict_proba(X, lengths)

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits, whose softmax is `predict_proba`.

        Parameters
        ----------
        X, lengths : as in `SensorLSTMClassifier.decision_function`
        """
        check_is_fitted(self)
        return self.network_.decision_function(X, lengths)

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Tell which windows are unlike all that the blend was trained on.

        Parameters
        ----------
        X, lengths : as in `SensorLSTMClassifier.outside`
        """
        check_is_fitted(self)
        return self.network_.outside(X, lengths)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy on windows with their labels.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `SensorLSTMClassifier.score`
        """
        check_is_fitted(self)
        return self.network_.score(X, y, sample_weight, lengths=lengths)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted blend to one safetensors file, without pickle.

        `SensorLSTMClassifier.load` and the command line read it as well. Such a file cannot hold
        classifiers of your own: they raise an InputError.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        """
        check_is_fitted(self)
        self.network_.save(path)

    def to_c(self, folder: str | os.PathLike[str], **options: Any) -> CExport:
        """Write the blend as C99, if it has no boosted trees and no classifier of your own.

        Parameters
        ----------
        folder, **options : as in `SensorLSTMClassifier.to_c`

        Returns
        -------
        CExport
            As from `SensorLSTMClassifier.to_c`.

        Raises
        ------
        InputError
            If it has trees.
        """
        check_is_fitted(self)
        return self.network_.to_c(folder, **options)

    def to_onnx(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write what `predict_proba` computes as an ONNX model.

        Parameters
        ----------
        path, **options : as in `SensorLSTMClassifier.to_onnx`
            The trees become a TreeEnsembleRegressor of ``ai.onnx.ml``.
        """
        check_is_fitted(self)
        self.network_.to_onnx(path, **options)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a blend written by `save`. Nothing in the file is executed.

        Parameters
        ----------
        path, device : as in `SensorLSTMClassifier.load`

        Raises
        ------
        ModelFileError
            If the file is no model.
        """
        network = SensorLSTMClassifier.load(path, device=device)
        kinds = network.features if isinstance(network.features, list) else []
        members = [name for name, own in MEMBERS.items() if set(own) <= set(kinds)]
        blend = cls(members, clone(network), network.random_state)
        blend._keep(network)
        return blend

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _make_network(self) -> SensorLSTMClassifier:
        network = SensorLSTMClassifier() if self.network is None else self.network
        if not isinstance(network, SensorLSTMClassifier):
            raise ArgumentError(f"network={network!r} is not a SensorLSTMClassifier.")
        is_auto = isinstance(self.estimators, str) and self.estimators == "auto"
        given = list(MEMBERS) if is_auto else self.estimators
        if not isinstance(given, list | tuple):
            raise ArgumentError(f"estimators={self.estimators!r} is not 'auto' or a list.")
        features: list[Any] = []
        for member in given:
            known = isinstance(member, str) and member in MEMBERS
            if not known and (isinstance(member, str) or not is_classifier(member)):
                raise ArgumentError(
                    f"estimators has {member!r}; use 'ridge', 'boosting' or scikit-learn"
                    " classifiers with predict_proba."
                )
            if known and given.count(member) > 1:
                raise ArgumentError(f"estimators={given!r} names {member!r} twice.")
            features += MEMBERS[member] if known else [member]
        own = {"features": features or None}
        if self.random_state is not None:
            own["random_state"] = self.random_state
        made: SensorLSTMClassifier = clone(network).set_params(**own)
        return made

    def _keep(self, network: SensorLSTMClassifier) -> None:
        self.network_ = network
        self.classes_ = network.classes_
        self.n_features_in_ = network.n_features_in_
        self.__dict__.pop("feature_names_in_", None)  # of an earlier fit
        if hasattr(network, "feature_names_in_"):
            self.feature_names_in_ = network.feature_names_in_
