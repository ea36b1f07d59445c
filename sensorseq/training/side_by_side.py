"""Train many runs at the same time, with the same results as if each were trained alone.

Runs with the same kind of network become the models of one `EpochTrainer`, so one native call runs
an epoch of all these runs. Runs with the same validation windows are validated together. Each run
handles its own order of windows, learning rates, best weights and early stopping; see
`engine.TrainingRun`.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import EpochTrainer
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.engine import Training, TrainingJob, TrainingResult, TrainingRun
from sensorseq.training.evaluation import (
    LossFunction,
    evaluate_models,
    forward_models,
    name_weights,
    sum_scores,
)
from sensorseq.training.native import RandomCrops, layout_of
from sensorseq.training.randomness import isolated_torch_rng
from sensorseq.training.streamed_data import StreamedData

SHARED_BYTES = 1024**3  # maximum size in bytes of the windows stored for one group
# Maximum size in bytes of validation windows that are stacked with those of other models.
STACKED_BYTES = 4 * 1024**2
STEP_PRODUCTS = 4e9  # maximum multiplications per thread in a step of a group: about 0.1 s


def train_side_by_side(jobs: Sequence[TrainingJob]) -> list[TrainingResult | None]:
    """Train the modules of all jobs in place, many at a time; return results in job order.

    The weights, history and best epoch of each job are bit for bit the same as if `train_network`
    trained this job alone, except that `duration_s` is the duration of an epoch of all runs divided
    by the number of runs. Jobs that the native engine does not support are trained one by one.

    An interrupt ends all runs in training, each with its best weights; the result of a job that has
    not started is None.
    """
    results: list[TrainingResult | None] = [None] * len(jobs)
    moved: dict[Hashable, TrainingData] = {}
    groups: dict[Hashable, dict[TrainingRun, int]] = {}
    alone = []
    for place, job in enumerate(jobs):
        run = _begin(job, moved)
        if run is not None:
            groups.setdefault(_kind(run), {})[run] = place
        else:
            alone.append(place)

    def is_over() -> bool:
        return any(result.ended_by == "interrupted" for result in results if result is not None)

    for places in groups.values():
        for runs in _in_portions(places):
            if is_over():
                break
            group = SideBySide(runs)
            with isolated_torch_rng(group.runs[0].dropout_seed, group.runs[0].device):
                group.train()
            for run in runs:
                results[places[run]] = run.result
    for place in alone:
        if is_over():
            break
        result = results[place] = jobs[place].run()
        if result.error is not None:
            raise result.error
    return results


def train_jobs(jobs: Sequence[TrainingJob]) -> list[TrainingResult]:
    """Train the jobs of one fit.

    Jobs that had not started when training was interrupted have no result. The error of a callback
    is raised or, if there is only one job, stored in the job's result.
    """
    if len(jobs) == 1:
        return [jobs[0].run()]
    return [result for result in train_side_by_side(jobs) if result is not None]


def _begin(job: TrainingJob, moved: dict[Hashable, TrainingData]) -> TrainingRun | None:
    """Return a job's run if it can join a group, or None if the job must be trained alone."""
    device = next(job.module.parameters()).device

    def move(data: TrainingData) -> TrainingData:
        """Move data to the device, but only once if several jobs share the data."""
        key = *(id(part) for part in vars(data).values()), device
        return moved.setdefault(key, data.to(device))

    choice = job.choose_engine()
    if not (
        isinstance(job.train, TrainingData) and isinstance(job.validation, TrainingData | None)
    ):
        return None  # streamed: each run reads its own windows
    if choice.name != "native":
        return None
    validation = None if job.validation is None else move(job.validation)
    moved_job = replace(job, train=move(job.train), validation=validation)
    return TrainingRun(moved_job, job.seed.spawn(3), choice, is_alone=False)


def _windows(run: TrainingRun) -> TrainingData:
    assert isinstance(run.train, TrainingData)
    return run.train


def _network(run: TrainingRun) -> LSTMLinear:
    assert isinstance(run.module, LSTMLinear)
    return run.module


def _kind(run: TrainingRun) -> Hashable:
    """Return a key shared by runs that can be models of one trainer."""
    train, config = _windows(run), run.config
    crops = RandomCrops(config, train)
    return (
        layout_of(_network(run)),
        config.loss,
        config.optimizer,
        config.ema_decay is None,
        train.X.dtype,
        train.X.device,
        train.X.shape[1:],
        train.lengths is None,
        crops.crops,
        crops.n_timesteps,
    )


def _evaluated_with(run: TrainingRun, data: TrainingData) -> Hashable:
    """Return a key shared by models that are evaluated together, on the same or stacked windows."""
    is_small = len(data) <= EVALUATION_BATCH and data.X.nbytes <= STACKED_BYTES
    kind = data.X.shape[1:] if is_small and data.lengths is None else data.identity
    return kind, run.config.label_smoothing


def _step_products(run: TrainingRun) -> float:
    """Return the number of multiplications in one step, forward and backward."""
    products = sum(p.numel() for p in _network(run).lstm.parameters() if p.ndim == 2)
    train, config = _windows(run), run.config
    batch = min(config.batch_size or math.inf, len(train))
    return 3.0 * batch * RandomCrops(config, train).n_timesteps * products


def _in_portions(runs: Iterable[TrainingRun]) -> Iterator[list[TrainingRun]]:
    """Yield groups of runs, small enough to fit in memory and to stop promptly after Ctrl-C."""
    by_windows: dict[Hashable, list[TrainingRun]] = {}
    for run in runs:
        shared = _windows(run).identity if run.refresh is None else id(run)
        by_windows.setdefault(shared, []).append(run)
    n_threads = torch.get_num_threads()
    portion: list[TrainingRun] = []
    seen: set[Hashable] = set()
    n_bytes, products = 0, 0.0
    for shared, sharing in by_windows.items():
        for run in sharing:
            of_windows = 0 if shared in seen else _windows(run).X.nbytes
            too_large = seen and n_bytes + of_windows > SHARED_BYTES
            too_slow = (products + _step_products(run)) / n_threads > STEP_PRODUCTS
            if too_large or (too_slow and len(portion) >= n_threads):
                yield portion
                portion, n_bytes, products, seen = [], 0, 0.0, set()
                of_windows = _windows(run).X.nbytes
            portion.append(run)
            seen.add(shared)
            n_bytes += of_windows
            products += _step_products(run)
    yield portion


class SideBySide(Training):
    """Trains runs that are models of one trainer, and evaluates them together."""

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        fixed: dict[Hashable, TrainingData | None] = {}
        for run in runs:  # runs with the same windows share one copy of them
            if run.recorder is not None:
                identity = _windows(run).identity
                run.recorder.fixed = fixed.setdefault(identity, run.recorder.fixed)
        # A thread takes the next model when it has finished one, so the longest runs come first.
        super().__init__(sorted(runs, key=lambda run: -run.batches.n_batches))
        self._arrange()

    def _arrange(self) -> None:
        validations = [run.validation for run in self.runs]
        self._validations = self._evaluations(validations)
        recorders = [run.recorder for run in self.runs]
        self._fixed = self._evaluations([None if r is None else r.fixed for r in recorders])

    def _evaluations(
        self, parts: Sequence[TrainingData | StreamedData | None]
    ) -> list["_Evaluation"]:
        alike: dict[Hashable, dict[int, TrainingData]] = {}
        for model, (run, data) in enumerate(zip(self.runs, parts, strict=True)):
            if isinstance(data, TrainingData):
                alike.setdefault(_evaluated_with(run, data), {})[model] = data
        assert self.native is not None
        return [
            _Evaluation(self.native.trainer, models, self.runs[next(iter(models))].losses_of)
            for models in alike.values()
        ]

    def validate(self, rows: Sequence[dict[str, float]]) -> None:
        """Add the validation part's history columns."""
        for validation in self._validations:
            for model, (loss, accuracy), outputs in validation.measure():
                run = self.runs[model]
                rows[model] |= {"val_loss": loss, "val_accuracy": accuracy}
                if run.recorder is not None and run.recorder.follows_validation:
                    run.recorder.note_validation(outputs)

    def measure_fixed(self) -> None:
        """Evaluate the fixed windows of the recorders."""
        for fixed in self._fixed:
            for model, scores, _ in fixed.measure():
                recorder = self.runs[model].recorder
                assert recorder is not None
                recorder.note_fixed(*scores)

    def finish(self, run: TrainingRun, ended_by: str) -> None:
        """Finish a run; raise the error of a callback."""
        super().finish(run, ended_by)
        if run.callbacks.error is not None:
            raise run.callbacks.error

    def leave_ended(self) -> None:
        """Continue without the runs that have ended."""
        before = len(self.runs)
        super().leave_ended()
        if 0 < len(self.runs) < before:
            self._arrange()


class _Evaluation:
    """Evaluates some models of a trainer in one forward pass."""

    def __init__(
        self, trainer: EpochTrainer, parts: Mapping[int, TrainingData], losses_of: LossFunction
    ) -> None:
        self._trainer = trainer
        self._models = list(parts)
        self._losses_of = losses_of
        self._is_all = len(parts) == trainer.n_models
        self._stacked: tuple[Tensor, Tensor] | None = None
        sets = list(parts.values())
        self._data = sets[0]
        self._n_windows = [len(data) for data in sets]
        if any(data.X is not sets[0].X or data.target is not sets[0].target for data in sets):
            stack = partial(pad_sequence, batch_first=True)  # pads with zeros
            self._stacked = stack([s.X for s in sets]), stack([s.target for s in sets])

    def measure(self) -> Iterator[tuple[int, tuple[float, float], list[Tensor]]]:
        """Yield each model, its mean loss and accuracy, and the outputs (n, K) of each batch."""
        scores, batches = self._evaluate()
        for place, (model, n) in enumerate(zip(self._models, self._n_windows, strict=True)):
            yield model, scores[place], [outputs[place, :n] for outputs in batches]

    def _evaluate(self) -> tuple[list[tuple[float, float]], list[Tensor]]:
        batches: list[Tensor] = []
        if self._stacked is None:
            scores = evaluate_models(
                lambda batch: self._forward(batch.X[None], batch.lengths),
                self._data,
                self._losses_of,
                self._trainer.parameters.device,
                keep=batches.append,
            )
            return scores, batches
        x, target = self._stacked
        outputs = self._forward(x, None)
        sums = sum_scores(outputs, target, self._n_windows, self._losses_of)
        means = sums / torch.tensor(self._n_windows)[:, None]
        return [(loss, score) for loss, score in means.tolist()], [outputs]

    def _forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        trainer, running = self._trainer, self._trainer.running
        weights = trainer.parameters if trainer.average is None else trainer.average
        if not self._is_all:
            places = torch.tensor(self._models, device=weights.device)
            weights = weights.index_select(0, places)
            running = None if running is None else running.index_select(0, places)
        named = name_weights(trainer.network, weights)
        return forward_models(trainer.network, named, running, x, lengths)
