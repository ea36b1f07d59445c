"""Many training runs at once, with the numbers that each gets alone.

Runs of one kind of network become the models of one `EpochTrainer`: an epoch of all of them is one
native call, and so is their validation on the same windows. What an epoch means to a run (its
order, rates, best weights, early stopping) is the run's own business, see `engine.TrainingRun`.
"""

import math
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib.parallel import get_active_backend  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import EpochTrainer, Network, pack_batches
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.callbacks import Watchers
from sensorseq.training.config import EngineChoice
from sensorseq.training.engine import TrainingJob, TrainingResult, TrainingRun, is_second_interrupt
from sensorseq.training.evaluation import evaluate_models, forward_models, judge, name_weights
from sensorseq.training.losses import Objective
from sensorseq.training.native import (
    ModelWeights,
    RandomCrops,
    make_trainer,
    network_of,
    summarize_epochs,
)
from sensorseq.training.randomness import integer_seed, isolated_torch_rng
from sensorseq.training.stream import StreamedData

SHARED_BYTES = 1024**3  # of windows that are laid out for one group
STACKED_BYTES = 4 * 1024**2  # of validation windows that each model of a call gets by itself
STEP_PRODUCTS = 4e9  # multiplications of one step of all models in a group: about 0.1 s


@dataclass
class _Member:
    place: int  # among the jobs
    job: TrainingJob
    module: LSTMLinear
    train: TrainingData
    validation: TrainingData | None
    run: TrainingRun
    choice: EngineChoice
    dropout_seed: int
    crops: RandomCrops
    network: Network
    first_row: int = 0  # of its windows among those of the group
    weights: ModelWeights = field(init=False)
    has_ended: bool = False
    watchers: Watchers = field(init=False)

    def __post_init__(self) -> None:
        self.watchers = Watchers(self.job.callbacks)

    def notify(self, hook: str, argument: Any) -> None:
        """Call one hook of every callback; what one raises is for the end of the run."""
        self.watchers.notify(hook, self.module, argument)

    @property
    def kind(self) -> Hashable:
        """What the models of one trainer agree in."""
        train, config = self.train, self.job.config
        return (
            self.network,
            config.loss,
            config.optimizer,
            config.ema_decay is None,
            train.X.dtype,
            train.X.device,
            train.X.shape[1:],
            train.lengths is None,
            self.crops.crops,
            self.crops.n_timesteps,
        )

    @property
    def windows(self) -> Hashable:
        """Whose windows it trains on."""
        return _ids(self.train) if self.job.refresh is None else self.place

    def evaluated_with(self, data: TrainingData) -> Hashable:
        """Return what models evaluated together agree in: the windows, or that they stack."""
        is_small = len(data) <= EVALUATION_BATCH and data.X.nbytes <= STACKED_BYTES
        kind = data.X.shape[1:] if is_small and data.lengths is None else _ids(data)
        return kind, self.job.config.label_smoothing

    @property
    def step_products(self) -> float:
        """Multiplications of one step, forward and backward."""
        products = sum(p.numel() for p in self.module.lstm.parameters() if p.ndim == 2)
        config = self.job.config
        n_drawn = config.windows_per_epoch or len(self.train)
        batch = min(config.batch_size or math.inf, n_drawn)
        return 3.0 * batch * self.crops.n_timesteps * products


def train_side_by_side(
    jobs: Sequence[TrainingJob],
    *,
    return_errors: bool = False,
    are_one: bool = False,
) -> list[Any]:
    """Train every job's module in place, many at a time; return results in the order of jobs.

    Each gets the bits that `train_network` gives it alone: weights, history, best epoch.
    `duration_s` is an equal share of what the epoch took for all that trained in it. What the
    native engine does not serve is trained one after another.

    With `return_errors`, an error that ends one job takes the place of its result. An interrupt
    ends all that train at this time, each with its best weights; other groups go on, unless the
    jobs `are_one`: those that have not begun get None.
    """
    results: list[Any] = [None] * len(jobs)

    def attempt(place: int, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            if not return_errors:
                raise
            results[place] = error
            return None

    moved: dict[Hashable, TrainingData] = {}
    groups: dict[Hashable, list[_Member]] = {}
    alone = []
    for place, job in enumerate(jobs):
        member = attempt(place, partial(_begin, place, job, moved))
        if isinstance(member, _Member):
            groups.setdefault(member.kind, []).append(member)
        elif results[place] is None:
            alone.append(place)

    def is_over() -> bool:
        ended = (result for result in results if isinstance(result, TrainingResult))
        return are_one and any(result.ended_by == "interrupted" for result in ended)

    for group in groups.values():
        for members in _in_portions(group):
            if not is_over():
                _Group(members, return_errors, results).train()
    for place in alone:
        if is_over():
            break
        result = attempt(place, jobs[place].run)
        if result is not None:
            if result.error is not None and not return_errors:
                raise result.error
            results[place] = result
    return results


def train_jobs(jobs: Sequence[TrainingJob]) -> list[TrainingResult]:
    """Train the jobs of one fit: here, or with those of other fits.

    A joblib backend with a method `train_jobs` (`sensorseq.model_selection.side_by_side`) trains
    the networks of all fits that it runs. Jobs that had not begun at an interrupt get no result.
    Raises what a callback raised, unless there is one job: then it is in the result.
    """
    backend, _ = get_active_backend()
    if hasattr(backend, "train_jobs"):
        results: list[TrainingResult] | None = backend.train_jobs(jobs)
        if results is not None:
            return results
    if len(jobs) == 1:
        return [jobs[0].run()]
    return [result for result in train_side_by_side(jobs, are_one=True) if result is not None]


def share_equal(jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
    """Return jobs of which those with equal windows hold the same tensors."""
    known: dict[Hashable, list[TrainingData]] = {}

    def share(data: TrainingData | StreamedData) -> TrainingData | StreamedData:
        if not isinstance(data, TrainingData):
            return data
        sample = data.X.reshape(-1)[:: 1 + data.X.numel() // 64].cpu().numpy().tobytes()
        of_sample = known.setdefault((data.X.shape, data.X.dtype, sample), [])
        for other in of_sample:
            if all(_is_equal(vars(data)[name], vars(other)[name]) for name in _WINDOWS):
                weight = other.weight if _is_equal(data.weight, other.weight) else data.weight
                return replace(other, weight=weight)
        of_sample.append(data)
        return data

    return [
        replace(
            job,
            train=share(job.train),
            validation=None if job.validation is None else share(job.validation),
        )
        for job in jobs
    ]


_WINDOWS = ("X", "lengths", "target")


def _is_equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or torch.equal(one, other)


def _ids(data: TrainingData) -> Hashable:
    return id(data.X), id(data.lengths), id(data.target)


def _begin(place: int, job: TrainingJob, moved: dict[Hashable, TrainingData]) -> _Member | None:
    """Return the run of a job that can be one of a group; None when it has to run alone."""
    module = job.module
    device = next(module.parameters()).device

    def move(data: TrainingData) -> TrainingData:
        """Move to the device once what several jobs have."""
        key = *(id(part) for part in vars(data).values()), device
        return moved.setdefault(key, data.to(device))

    choice = job.choose_engine()
    if not (
        isinstance(job.train, TrainingData) and isinstance(job.validation, TrainingData | None)
    ):
        return None  # streamed: each run reads its own windows
    if choice.name != "native" or not isinstance(module, LSTMLinear):
        return None
    if job.checkpoint is not None or job.own is not None:
        return None
    order_seed, crop_seed, dropout_seed = job.seed.spawn(3)
    if job.start is not None:
        job.start.load_module(module)
    train = move(job.train)
    validation = None if job.validation is None else move(job.validation)
    moved_job = replace(job, train=train, validation=validation)
    run = TrainingRun(moved_job, order_seed, crop_seed)
    if job.start is not None:
        job.start.load_run(run)
    if job.recorder is not None:
        job.recorder.begin(run, is_alone=False)
    return _Member(
        place,
        job,
        module,
        train,
        validation,
        run,
        choice,
        integer_seed(dropout_seed),
        RandomCrops(job.config, train),
        network_of(module),
    )


def _in_portions(group: list[_Member]) -> Iterator[list[_Member]]:
    """Yield the members by windows, no more at a time than memory and a prompt Ctrl-C allow."""
    by_windows: dict[Hashable, list[_Member]] = {}
    for member in group:
        by_windows.setdefault(member.windows, []).append(member)
    n_threads = torch.get_num_threads()
    portion: list[_Member] = []
    seen: set[Hashable] = set()
    n_bytes, products = 0, 0.0
    for member in (member for members in by_windows.values() for member in members):
        of_windows = 0 if member.windows in seen else member.train.X.nbytes
        too_large = seen and n_bytes + of_windows > SHARED_BYTES
        too_slow = (products + member.step_products) / n_threads > STEP_PRODUCTS
        if too_large or (too_slow and len(portion) >= n_threads):
            yield portion
            portion, n_bytes, products, seen = [], 0, 0.0, set()
            of_windows = member.train.X.nbytes
        portion.append(member)
        seen.add(member.windows)
        n_bytes += of_windows
        products += member.step_products
    yield portion


class _Group:
    """Runs that are the models of one trainer."""

    def __init__(self, members: list[_Member], return_errors: bool, results: list[Any]) -> None:
        # a lane takes the next model when it is done with one: the longest first
        self._active = sorted(members, key=lambda member: -member.run.batches.n_batches)
        self._return_errors = return_errors
        self._results = results
        self._trainer = self._make_trainer()
        fixed: dict[Hashable, TrainingData | None] = {}
        for member in self._active:  # of the same windows once
            if (recorder := member.run.recorder) is not None:
                recorder.fixed = fixed.setdefault(_ids(member.train), recorder.fixed)
        for model, member in enumerate(self._active):
            member.weights = ModelWeights(member.module, self._trainer, model)
            if member.job.start is not None:
                member.job.start.load_model(self._trainer, model)
        self._arrange()

    def _make_trainer(self) -> EpochTrainer:
        """Lay out each set of windows once, one after the other."""
        sets: list[TrainingData] = []
        begin: dict[Hashable, int] = {}
        for member in self._active:
            if member.windows not in begin:
                begin[member.windows] = sum(map(len, sets))
                sets.append(member.train)
            member.first_row = begin[member.windows]
        self._x = _join([part.X for part in sets])
        if len(sets) == 1 and any(member.job.refresh is not None for member in self._active):
            self._x = self._x.clone()  # it will be written over
        weight = None
        if any(member.train.weight is not None for member in self._active):
            weight = self._x.new_ones((len(self._active), len(self._x)))
            for of_member, member in zip(weight, self._active, strict=True):
                train = member.train
                if train.weight is not None:
                    of_member[member.first_row : member.first_row + len(train)] = train.weight
        lengths = None if sets[0].lengths is None else _join([s.lengths for s in sets])
        return make_trainer(
            [member.module for member in self._active],
            [member.job.config for member in self._active],
            [member.dropout_seed for member in self._active],
            TrainingData(self._x, lengths, _join([part.target for part in sets]), weight),
            self._active[0].crops.n_timesteps,
        )

    def _arrange(self) -> None:
        self._first_rows = torch.tensor([[member.first_row] for member in self._active])
        members = self._active
        self._validations = self._evaluations([member.validation for member in members])
        recorders = [member.run.recorder for member in members]
        self._fixed = self._evaluations([None if r is None else r.fixed for r in recorders])
        self._notes_margins = any(recorder is not None for recorder in recorders)

    def _evaluations(self, parts: Sequence[TrainingData | None]) -> list["_Evaluation"]:
        alike: dict[Hashable, list[int]] = {}
        for model, (member, data) in enumerate(zip(self._active, parts, strict=True)):
            if data is not None:
                alike.setdefault(member.evaluated_with(data), []).append(model)
        return [
            _Evaluation(
                self._trainer,
                {model: data for model in models if (data := parts[model]) is not None},
                self._active[models[0]].run.objective,
            )
            for models in alike.values()
        ]

    def train(self) -> None:
        """Train until every run has ended."""
        first = self._active[0]
        with isolated_torch_rng(first.dropout_seed, first.run.device):
            try:
                for member in self._active:
                    member.module.eval()
                    member.notify("on_fit_begin", member.run.config)
                self._end_failed()
                while self._active:
                    self._train_epoch()
            except KeyboardInterrupt:
                unfinished = not all(member.run.best.epoch for member in self._active)
                if unfinished or is_second_interrupt():
                    raise
                for member in self._active:
                    if not member.has_ended:
                        self._finish(member, "interrupted")
            finally:
                for member in self._active:
                    if member.has_ended:
                        continue
                    member.module.eval()
                    member.notify("on_fit_end", member.run.history)
                    member.watchers.explain(sys.exception())

    def _end_failed(self) -> None:
        for member in self._active:
            if member.watchers.error is not None:
                self._finish(member, "callback_failed")
        self._leave_ended()

    def _train_epoch(self) -> None:
        for member in self._active:
            member.notify("on_epoch_begin", member.run.history)
        self._end_failed()
        if not self._active:
            return
        started = time.perf_counter()
        rows = self._take_steps()
        for validation in self._validations:
            for model, merits, outputs in validation.measure():
                run = self._active[model].run
                rows[model].update(run.objective.name_columns(*merits, "val_"))
                if run.recorder is not None and run.recorder.follows_validation:
                    run.recorder.note_validation(outputs)
        duration_s = (time.perf_counter() - started) / len(rows)
        for fixed in self._fixed:
            for model, merits, _ in fixed.measure():
                recorder = self._active[model].run.recorder
                assert recorder is not None
                recorder.note_fixed(*merits)
        for member, row in zip(self._active, rows, strict=True):
            self._end_epoch(member, row, duration_s)
        self._leave_ended()

    def _leave_ended(self) -> None:
        left = [model for model, member in enumerate(self._active) if not member.has_ended]
        if len(left) == len(self._active):
            return
        self._active = [self._active[model] for model in left]
        if left:
            self._trainer.keep(left)
            for model, member in enumerate(self._active):
                member.weights.move(self._trainer, model)
            self._arrange()

    def _take_steps(self) -> list[dict[str, Any]]:
        for member in self._active:
            if member.job.callbacks:  # which may have changed the weights
                member.weights.read_module()
            own = self._x[member.first_row : member.first_row + len(member.train)]
            member.run.refresh_windows(replace(member.train, X=own))
        drawn = [member.run.draw_epoch() for member in self._active]
        batches = [steps for steps, _ in drawn]
        rates = [of_model for _, of_model in drawn]
        rows, offsets = pack_batches(batches)
        starts = None
        if self._active[0].crops.crops:
            starts = torch.zeros_like(rows)
            for model, member in enumerate(self._active):
                drawn_starts = member.crops.draw(batches[model], member.run.crop_rng)
                starts[model, : len(drawn_starts)] = torch.from_numpy(drawn_starts)
        learning_rates = np.zeros((len(rates), offsets.shape[1] - 1))
        for model, of_run in enumerate(rates):
            learning_rates[model, : len(of_run)] = of_run
        steps = self._trainer.run(
            rows + self._first_rows,
            offsets,
            torch.from_numpy(learning_rates),
            crop_starts=starts,
            margins=self._notes_margins,
        )
        for model, (member, epoch) in enumerate(zip(self._active, drawn, strict=True)):
            recorder = member.run.recorder
            if recorder is not None:
                recorder.note_statistics(member.train, *epoch, [steps], model)
        for member, of_model in zip(self._active, batches, strict=True):
            member.weights.count_steps(len(of_model))
            if member.job.callbacks:
                member.weights.write_module()
        return summarize_epochs(steps, rates)

    def _end_epoch(self, member: _Member, row: dict[str, Any], duration_s: float) -> None:
        try:
            ended_by = member.run.end_epoch(row, duration_s, member.weights, member.watchers)
        except Exception as error:
            if not self._return_errors:
                raise
            member.has_ended = True
            self._results[member.place] = error
            return
        if ended_by is not None:
            self._finish(member, ended_by)

    def _finish(self, member: _Member, ended_by: str) -> None:
        run = member.run
        member.has_ended = True
        member.weights.write_module()
        run.restore_best()
        member.module.eval()
        member.notify("on_fit_end", run.history)
        result = run.result(ended_by, member.choice, member.watchers.error)
        if result.error is not None and not self._return_errors:
            raise result.error
        self._results[member.place] = result


class _Evaluation:
    """Evaluation of some models of a trainer in one forward pass."""

    def __init__(
        self, trainer: EpochTrainer, parts: Mapping[int, TrainingData], objective: Objective
    ) -> None:
        self._trainer = trainer
        self._models = list(parts)
        self._objective = objective
        self._is_all = len(parts) == trainer.n_models
        self._stacked: tuple[Tensor, Tensor] | None = None
        sets = list(parts.values())
        self._data = sets[0]
        self._n_windows = [len(data) for data in sets]
        if any(data.X is not sets[0].X or data.target is not sets[0].target for data in sets):
            stack = partial(pad_sequence, batch_first=True)  # what is missing is zero
            self._stacked = stack([s.X for s in sets]), stack([s.target for s in sets])

    def measure(self) -> Iterator[tuple[int, tuple[float, float], list[Tensor]]]:
        """Yield each model, its mean loss and score, and its outputs (n, K) batch by batch."""
        merits, batches = self._evaluate()
        for place, (model, n) in enumerate(zip(self._models, self._n_windows, strict=True)):
            yield model, merits[place], [outputs[place, :n] for outputs in batches]

    def _evaluate(self) -> tuple[list[tuple[float, float]], list[Tensor]]:
        batches: list[Tensor] = []
        if self._stacked is None:
            merits = evaluate_models(
                lambda batch: self._forward(batch.X[None], batch.lengths),
                self._data,
                self._objective,
                self._trainer.parameters.device,
                keep=batches.append,
            )
            return merits, batches
        x, target = self._stacked
        outputs = self._forward(x, None)
        sums = judge(outputs, target, self._n_windows, self._objective)
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


def _join(parts: Sequence[Any]) -> Tensor:
    """Lay out tensors one after the other; one alone stays where it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
