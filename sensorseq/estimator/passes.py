"""partial_fit: learn from windows as they arrive, one pass over each chunk."""

from typing import Any

from sklearn.exceptions import ConvergenceWarning

from sensorseq.errors import ArgumentError, DivergedError, warn_caller
from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.estimator.labels import draw_entropy
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.training.callbacks import notify
from sensorseq.training.distributed import agree_on, current_ranks
from sensorseq.training.network import continue_network
from sensorseq.training.passes import PassResult, train_pass
from sensorseq.training.preparation import Preparation, check_same_preparation, describe_preparation
from sensorseq.windows import WindowSet

_OF_FIT = {  # argument: what leaves it alone, and what to do instead
    "calibrate": (False, "calibrate with fit on validation windows"),
    "checkpoint": (
        None,
        "pickle the estimator between calls instead; it includes the optimizer state",
    ),
    "n_models": (1, "train several estimators instead"),
    "windows_per_epoch": (None, "give it the windows of one pass"),
    "auto_repair": (False, "set it to False"),
}


class PassesMixin:
    """What `partial_fit` of both estimators shares; a part of `SensorLSTM`."""

    _in_pass = False  # during a call: nothing is held out, scaling is not fitted again
    _passes: list[dict[str, Any]]  # one for each network
    _head: FeatureHead | None
    features_: FeatureChoice
    refitted_: bool
    preparation_: Preparation | None

    def _learn_pass(
        self: Any, X: Any, y: Any, sample_weight: Any, groups: Any, lengths: Any
    ) -> None:
        """Train for one pass over the windows; leave everything as it was when that fails."""
        for name, (harmless, instead) in _OF_FIT.items():
            if getattr(self, name, harmless) != harmless:
                raise ArgumentError(
                    f"{name}={getattr(self, name)!r} works in fit but not in partial_fit;"
                    f" {instead}."
                )
        begins = not hasattr(self, "module_")
        before = dict(self.__dict__)
        self._in_pass = True
        try:
            prepared, modules, results = self._run_pass(
                X, y, sample_weight, groups, lengths, begins=begins
            )
            result, is_finite = results[0], all(each.is_finite for each in results)
            if not is_finite and begins:
                raise DivergedError(
                    "training diverged in its first pass: a loss or gradient is not finite. Lower"
                    f" learning_rate (now {self.learning_rate!r}), or check scale (now"
                    f" {self.scale!r})."
                )
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        del self._in_pass
        history = History([] if begins else self.history_)
        history.append({"epoch": len(history) + 1} | result.row)
        self.history_ = history
        self.n_iter_ = self.best_epoch_ = len(history)
        self.engine_ = result.engine
        self._report_facts = prepared.facts
        if is_finite:
            self.best_score_ = result.row["loss"]
            self.module_, *self._other_modules = modules
            self._passes = [each.state for each in results]
            if begins:
                self._head, self.features_ = None, FeatureChoice(reason="partial_fit")
                self.refitted_ = False
            self._learn_probabilities(prepared)
        else:
            warn_caller(
                f"training diverged in pass {len(history)}: a loss or gradient is not finite. The"
                " weights from before this call are kept; see fluctuation_.",
                ConvergenceWarning,
            )
        self._make_report()
        ranks = current_ranks()
        if ranks is None or ranks.is_first:
            notify(prepared.first.callbacks, "on_epoch_end", self.module_, self.history_)

    def _run_pass(
        self: Any, X: Any, y: Any, sample_weight: Any, groups: Any, lengths: Any, *, begins: bool
    ) -> tuple[Any, list[LSTMLinear], list[PassResult]]:
        """Train every network that is kept: one, or after a fit those of its folds."""
        prepared = self._prepare_pass(
            X, y, sample_weight=sample_weight, groups=groups, lengths=lengths
        )
        modules = [prepared.module]
        if not begins:
            device = next(prepared.module.parameters()).device
            parameters = self.get_params(deep=False)
            modules += [
                continue_network(module, parameters).to(device) for module in self.modules_[1:]
            ]
        states = [] if begins else getattr(self, "_passes", [])
        if not states:
            entropy = int(agree_on(draw_entropy(self.random_state)))
            states = [{"entropy": entropy + member} for member in range(len(modules))]
        results = [
            train_pass(
                module,
                prepared.first.train,
                prepared.first.config,
                state,
                engine=self.engine,
                refresh=prepared.first.refresh,
            )
            for module, state in zip(modules, states, strict=True)
        ]
        return prepared, modules, results

    def _join_preparation(self: Any, *sets: WindowSet) -> None:
        """Count the recordings of further windows as seen, too."""
        if not sets:
            return
        known: Preparation | None = getattr(self, "preparation_", None)
        here = describe_preparation(*sets)
        if known is not None:
            for windows in sets:
                check_same_preparation(known, windows)
            here = {**known, "recordings": {**known["recordings"], **here["recordings"]}}
        self.preparation_ = here
