"""From arguments to a fit that is ready to train: its setup, networks and windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from sensorseq.diagnosis.trials import PartWindows
from sensorseq.errors import ArgumentError
from sensorseq.gpu_check.check import check_before_fit
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.patches import Patch
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.callbacks import NoProgress, check_callbacks
from sensorseq.training.config import count_epochs
from sensorseq.training.data import FitData, WindowFormat
from sensorseq.training.engine import TrainingJob, steps_of_epoch
from sensorseq.training.labels import draw_entropy
from sensorseq.training.network import continue_network, make_network
from sensorseq.training.parameters import check_device, check_parameters, resolve_device
from sensorseq.training.patches import AUTO, check_patch, fit_patch, make_patch
from sensorseq.training.recorder import new_recorder
from sensorseq.training.stream import StreamedData
from sensorseq.training.targets import ClassTarget


class Seeds(NamedTuple):
    """Independent random streams, so that an extra draw in one does not affect the others."""

    split: np.random.SeedSequence
    # Initial weights and training.
    members: list[tuple[np.random.SeedSequence, np.random.SeedSequence]]
    entropy: int

    @classmethod
    def draw(cls, parameters: Mapping[str, Any], replayed: int | None) -> "Seeds":
        """Return seeds for a new fit, or for a repeated one."""
        entropy = replayed
        if entropy is None:
            entropy = draw_entropy(parameters["random_state"])
        # in this order, the first of several members has the seeds of a single one
        split, *streams = np.random.SeedSequence(entropy).spawn(1 + 2 * parameters["n_models"])
        return cls(split, list(zip(streams[::2], streams[1::2], strict=True)), entropy)


@dataclass(frozen=True)
class PreparedFit:
    """A fit that is checked, split, scaled and ready to train.

    There is one job per member of an ensemble; the report and its `facts` describe the first. The
    data of `train` and `validation` may be streamed.
    """

    jobs: list[TrainingJob]
    facts: dict[str, Any]
    data: FitData
    train: PartWindows
    validation: PartWindows | None
    entropy: int
    format: WindowFormat
    target: ClassTarget
    progress: NoProgress = field(default_factory=NoProgress)

    @property
    def module(self) -> LSTMLinear:
        """The network that the report describes."""
        return self.modules[0]

    @property
    def modules(self) -> list[LSTMLinear]:
        """The networks of all members."""
        modules = [job.module for job in self.jobs if isinstance(job.module, LSTMLinear)]
        assert len(modules) == len(self.jobs)
        return modules

    def saved(self, checkpoint: Any) -> "PreparedFit":
        """Return a copy whose first network is written to a file while it trains."""
        first, *others = self.jobs
        # before other callbacks, which may change the weights
        first = replace(first, callbacks=(checkpoint, *first.callbacks))
        return replace(self, jobs=[first, *others])

    def watched(self, progress: NoProgress) -> "PreparedFit":
        """Return a copy whose progress is shown."""
        jobs = [replace(job, callbacks=(*progress.callbacks, *job.callbacks)) for job in self.jobs]
        return replace(self, jobs=jobs, progress=progress)


@dataclass(frozen=True)
class FitSetup:
    """The checked arguments of a fit, and its target.

    `networks` are those of an earlier fit that is continued.
    """

    parameters: Mapping[str, Any]
    target: ClassTarget
    config: TrainingConfig
    device: torch.device
    seeds: Seeds
    networks: Sequence[LSTMLinear] = ()

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, Any],
        target: ClassTarget,
        networks: Sequence[LSTMLinear] = (),
        replayed: int | None = None,
    ) -> "FitSetup":
        """Check all arguments; `replayed` is the entropy of a fit to be repeated."""
        config = check_parameters(parameters)
        check_patch(parameters["patch"])
        device = _training_device(parameters)
        seeds = Seeds.draw(parameters, replayed)
        return cls(parameters, target, config, device, seeds, networks)

    @property
    def continues(self) -> bool:
        """Whether the fit continues an earlier one."""
        return bool(self.networks)

    def prepare(self, form: WindowFormat, data: FitData) -> PreparedFit:
        """Make the networks and the scaled windows from checked parts."""
        target, train, validation = self.target, data.train, data.validation
        n_channels = train.sequences.X.shape[2]
        samples: Any = form.tensors(train, target, training=True)
        if not self.continues:
            form = replace(form, patch=self._choose_patch(samples))
        patch = form.patch
        windows = samples if patch is None else samples.patched(patch)
        modules = self.make_networks(n_channels if patch is None else patch.n_inputs(n_channels))
        held_out = None
        if validation is not None:
            shown: Any = form.tensors(validation, target, training=False)
            steps = shown if patch is None else shown.patched(patch)
            held_out = PartWindows(steps, validation.groups, validation.rows, shown)
        config = self._resolved(modules[0], windows)
        callbacks = check_callbacks(self.parameters["callbacks"])
        jobs = [
            TrainingJob(
                module,
                windows,
                None if held_out is None else held_out.data,
                config,
                training,
                callbacks=callbacks,
                engine=self.parameters["engine"],
                refresh=form.renewal(train, samples, training),
                recorder=None if member else new_recorder(),
            )
            for member, (module, (_, training)) in enumerate(
                zip(modules, self.seeds.members, strict=True)
            )
        ]
        own = PartWindows(windows, train.groups, train.rows, samples)
        facts = target.facts(train.target, None if validation is None else validation.target)
        return PreparedFit(jobs, facts, data, own, held_out, self.seeds.entropy, form, target)

    def prepare_again(self, prepared: PreparedFit) -> PreparedFit:
        """Make a new network for the windows of an earlier fit with the same sizes."""
        first = prepared.jobs[0]
        own = replace(self, target=prepared.target)
        (module,) = own.make_networks(prepared.module.input_size)
        ((_, training),) = self.seeds.members
        config = own._resolved(module, first.train)
        return replace(prepared, jobs=[replace(first, module=module, config=config, seed=training)])

    def make_networks(self, n_inputs: int) -> list[LSTMLinear]:
        """Return each member's network on the device: a new one, or one to continue."""
        made = [
            continue_network(self.networks[member], self.parameters)
            if self.continues
            else make_network(self.parameters, n_inputs, self.target.n_outputs, weights)
            for member, (weights, _) in enumerate(self.seeds.members)
        ]
        return [module.to(self.device) for module in made]

    def _resolved(self, module: LSTMLinear, train: TrainingData | StreamedData) -> TrainingConfig:
        """Return the configuration with the number of outputs and the resolved `max_epochs`."""
        n_epochs = count_epochs(self.config, steps_of_epoch(module, train, self.config))
        return replace(self.config, n_outputs=self.target.n_outputs, max_epochs=n_epochs)

    def _choose_patch(self, samples: TrainingData | StreamedData) -> Patch | None:
        """Choose how many samples form one step of the network, and scale it; None for one."""
        patch = self.parameters["patch"]
        if self.config.crop == "random" and self.config.max_timesteps is not None:
            if patch not in (None, AUTO, 1):
                raise ArgumentError(
                    f"patch={patch!r} cannot be combined with crop='random', which begins a"
                    " window at any sample; set patch=None, or another crop."
                )
            return None
        chosen = make_patch(patch, samples.nothing().X.shape[1])
        if chosen is None:
            return None
        blocks = [samples] if isinstance(samples, TrainingData) else samples.blocks()
        return fit_patch(chosen, ((block.X, block.lengths) for block in blocks))


def _training_device(parameters: Mapping[str, Any]) -> torch.device:
    device, engine = parameters["device"], parameters["engine"]
    # the native engine only runs on the CPU, so "auto" follows it
    wanted = "cpu" if (device, engine) == ("auto", "native") else device
    if check_device(wanted) != "cpu":
        check_before_fit(wanted)
    dtype: torch.dtype = getattr(torch, parameters["dtype"])
    return resolve_device(wanted, hidden_size=parameters["hidden_size"], dtype=dtype)
