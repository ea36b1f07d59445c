"""Evaluate windows with trained networks: mean loss, score and outputs."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from sensorseq.training.data import EVALUATION_BATCH, TrainingData
from sensorseq.training.distributed import Ranks
from sensorseq.training.objective import Objective
from sensorseq.training.stream import StreamedData


@torch.no_grad()
def evaluate(
    module: nn.Module,
    data: TrainingData | StreamedData,
    objective: Objective,
    ranks: Ranks | None = None,
    keep: Callable[[Tensor], Any] | None = None,
) -> tuple[float, float]:
    """Return the unweighted mean loss and the score of `data`, in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    data : TrainingData or StreamedData
        The windows.
    objective : Objective
        Loss and score.
    ranks, keep
        As in `evaluate_models`.
    """
    device = next(module.parameters()).device
    module.eval()

    def forward(batch: TrainingData) -> Tensor:
        outputs: Tensor = module(batch.X, batch.lengths)
        return outputs[None]

    return evaluate_models(forward, data, objective, device, ranks, keep)[0]


@torch.no_grad()
def evaluate_models(
    forward: Callable[[TrainingData], Tensor],
    data: TrainingData | StreamedData,
    objective: Objective,
    device: torch.device,
    ranks: Ranks | None = None,
    keep: Callable[[Tensor], Any] | None = None,
) -> list[tuple[float, float]]:
    """Return mean loss (unweighted) and score of `data` for each of M models.

    Parameters
    ----------
    forward : callable
        Gives the outputs (M, n, K) for windows on `device`.
    data, objective
        The windows, and how they are judged.
    device : torch.device
        Where the models are.
    ranks : Ranks, optional
        Processes that evaluate every so many batches each.
    keep : callable, optional
        Called with the outputs of each batch that is evaluated here, in order.
    """
    totals = torch.zeros((1, 2), dtype=torch.float64)
    with closing(_evaluation_batches(data, device, ranks)) as batches:
        for batch in batches:
            outputs = forward(batch)
            if keep is not None:
                keep(outputs)
            target = batch.target.expand(len(outputs), *batch.target.shape)
            totals = totals + judge(outputs, target, [len(batch)] * len(outputs), objective)
    if ranks is not None:
        ranks.sum(totals)
    return [(mean_loss, score) for mean_loss, score in (totals / len(data)).tolist()]


def _evaluation_batches(
    data: TrainingData | StreamedData, device: torch.device, ranks: Ranks | None
) -> Generator[TrainingData, None, None]:
    number = 0
    with closing(data.blocks()) as blocks:
        for block in blocks:
            for rows in torch.arange(len(block)).split(EVALUATION_BATCH):
                is_all_there = len(rows) == len(block) and block.X.device == device
                if ranks is None or number % ranks.world == ranks.rank:
                    yield block if is_all_there else block.take(rows, device)
                number += 1


@torch.no_grad()
def judge(
    outputs: Tensor, target: Tensor, n_windows: Sequence[int], objective: Objective
) -> Tensor:
    """Return the sums of loss and merits of each model's first windows, (M, 2) in float64.

    Parameters
    ----------
    outputs : Tensor of shape (M, n, K)
        Of M models.
    target : Tensor of shape (M, n) or (M, n, K)
        Of each.
    n_windows : sequence of M int
        How many count.
    objective : Objective
        How they are judged.
    """
    flat, target = outputs.flatten(0, 1), target.flatten(0, 1)
    losses = objective.losses(flat, target)
    merits = objective.merits(flat, target).view(len(outputs), -1)
    of_models = [losses] if len(outputs) == 1 else losses.view(len(outputs), -1).unbind()
    # Model by model: the sum of one must not depend on how many there are.
    means, sums = [], []
    for loss, merit, n in zip(of_models, merits.unbind(), n_windows, strict=True):
        means.append((loss if loss.ndim == 0 or len(loss) == n else loss[:n]).mean())
        sums.append(merit.sum() if len(merit) == n else merit[:n].sum())
    counts = torch.tensor(n_windows, dtype=flat.dtype, device=flat.device)
    return torch.stack(
        [(torch.stack(means) * counts).double(), torch.stack(sums).double()], dim=1
    ).cpu()
