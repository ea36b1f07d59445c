"""Forward passes of trained networks: mean loss, score and outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.nn import LSTMLinear
from sensorseq.ops import lstm, lstm_linear, reference
from sensorseq.ops.choice import choose_here
from sensorseq.ops.train_epoch import Network
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.distributed import Ranks
from sensorseq.training.losses import Objective
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
    """Return mean loss (unweighted) and score of `data` for each of M models on `device`.

    `forward` gives the outputs (M, n, K) of a batch there. With `ranks`, each process evaluates its
    share of the batches. `keep` is called with the outputs of each batch evaluated here, in order.
    """
    totals = torch.zeros((1, 2), dtype=torch.float64)
    number = -1
    with closing(data.blocks()) as blocks:
        for block in blocks:
            for rows in torch.arange(len(block)).split(EVALUATION_BATCH):
                number += 1
                if ranks is not None and number % ranks.world != ranks.rank:
                    continue
                is_all_there = len(rows) == len(block) and block.X.device == device
                batch = block if is_all_there else block.take(rows, device)
                outputs = forward(batch)
                if keep is not None:
                    keep(outputs)
                target = batch.target.expand(len(outputs), *batch.target.shape)
                totals = totals + judge(outputs, target, [len(batch)] * len(outputs), objective)
    if ranks is not None:
        ranks.sum(totals)
    return [(mean_loss, score) for mean_loss, score in (totals / len(data)).tolist()]


@torch.no_grad()
def judge(
    outputs: Tensor, target: Tensor, n_windows: Sequence[int], objective: Objective
) -> Tensor:
    """Return the sums of loss and scores of each model's first `n_windows`, (M, 2) in float64.

    `outputs` are (M, n, K) of M models, `target` (M, n) or (M, n, K).
    """
    flat, target = outputs.flatten(0, 1), target.flatten(0, 1)
    losses = objective.losses(flat, target)
    scores = objective.scores(flat, target).view(len(outputs), -1)
    of_models = [losses] if len(outputs) == 1 else losses.view(len(outputs), -1).unbind()
    # Model by model: the sum of one must not depend on how many there are.
    means, sums = [], []
    for loss, score, n in zip(of_models, scores.unbind(), n_windows, strict=True):
        means.append((loss if loss.ndim == 0 or len(loss) == n else loss[:n]).mean())
        sums.append(score.sum() if len(score) == n else score[:n].sum())
    counts = torch.tensor(n_windows, dtype=flat.dtype, device=flat.device)
    return torch.stack(
        [(torch.stack(means) * counts).double(), torch.stack(sums).double()], dim=1
    ).cpu()


# Of each network its weights as the kernel takes them, and the state they were laid out in.
_LAID_OUT: WeakKeyDictionary[nn.Module, tuple[Any, list[Tensor]]] = WeakKeyDictionary()


def predict_outputs(module: nn.Module, X: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the outputs (N, K) of `X` on the CPU, in evaluation mode and in blocks.

    A network that is one native call on the CPU gets that call alone: `forward` around it takes
    longer than the kernel for one window.
    """
    if module.training:
        module.eval()
    with torch.inference_mode():
        if isinstance(module, LSTMLinear) and _is_one_call(module):
            weights = _lay_out(module)
            blocks = [
                torch.ops.sensorseq.lstm_linear(
                    x[None], valid, *weights, None, None, None, module.pooling, False, False
                )[0][0]
                for x, valid in _blocks(X, lengths)
            ]
        else:
            device = next(module.parameters()).device
            blocks = [
                module(x.to(device), None if valid is None else valid.to(device)).cpu()
                for x, valid in _blocks(X, lengths)
            ]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _blocks(X: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    if len(X) <= EVALUATION_BATCH:
        return [(X, lengths)]
    rows = [slice(i, i + EVALUATION_BATCH) for i in range(0, len(X), EVALUATION_BATCH)]
    return [(X[block], None if lengths is None else lengths[block]) for block in rows]


def _is_one_call(module: LSTMLinear) -> bool:
    weight = module.linear.weight
    if module.num_layers > 1 or module.norm is not None or not weight.is_cpu:
        return False
    if weight.dtype is not torch.float32:
        return False
    choice = choose_here(
        weight.device,
        weight.dtype,
        hidden_size=module.hidden_size,
        n_channels=module.input_size,
        needs_grad_x=False,
        has_mask=False,
    )
    return choice.served_by == "native"


def _lay_out(module: LSTMLinear) -> list[Tensor]:
    """Return the weights for the kernel, laid out again only when one has changed."""
    # the tensors themselves, so that the memory of none is taken by another
    held = (*module.lstm._parameters.values(), *module.linear._parameters.values())
    state = [(tensor, tensor._version) for tensor in held if tensor is not None]
    kept = _LAID_OUT.get(module)
    if kept is not None and all(
        old is new and version == seen
        for (old, seen), (new, version) in zip(kept[0], state, strict=True)
    ):
        return kept[1]
    layer = module.lstm.layer(0, 2 if module.bidirectional else 1)
    head = (module.linear.weight[None], module.linear.bias[None])
    weights = [tensor.contiguous() for tensor in (*layer, *head)]
    _LAID_OUT[module] = state, weights
    return weights


def name_weights(network: Network, weights: Tensor) -> dict[str, Tensor]:
    """Return views of the weights (M, Q) of M networks by name, each with M in front."""
    shapes = network.parameter_shapes()
    columns = weights.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {
        name: part.unflatten(1, shape)
        for (name, shape), part in zip(shapes.items(), columns, strict=True)
    }


@torch.no_grad()
def forward_models(
    network: Network,
    weights: Mapping[str, Tensor],
    running: Tensor | None,
    x: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the logits (M, N, K) of M networks, with the bits of `LSTMLinear` in evaluation mode.

    `weights` are those of `name_weights`, `running` (M, 2, P) the statistics of
    ``head_norm="batch"``; windows `x` are (M or 1, N, T, C).
    """
    suffixes = ("", "_reverse")[: network.n_directions]

    def of_layer(name: str, layer: int) -> Tensor:
        """Return one weight of a layer, (M, D, ...)."""
        parts = [weights[f"lstm.{name}_l{layer}{suffix}"] for suffix in suffixes]
        return parts[0][:, None] if len(parts) == 1 else torch.stack(parts, dim=1)

    sequence = x
    for layer in range(network.num_layers):
        bias = of_layer("bias_ih", layer) + of_layer("bias_hh", layer)
        layer_weights = of_layer("weight_ih", layer), of_layer("weight_hh", layer), bias
        if layer + 1 == network.num_layers and network.head_norm == "none":
            head = weights["linear.weight"], weights["linear.bias"]
            logits, _, _ = lstm_linear(
                sequence, *layer_weights, *head, pooling=network.pooling, lengths=lengths
            )
            return logits
        sequence, h_n, _ = lstm(sequence, *layer_weights, lengths=lengths)
    pooled = reference.pool(sequence, h_n, lengths, network.pooling)
    outputs = []
    for model, features in enumerate(pooled):
        scale, shift = weights["norm.weight"][model], weights["norm.bias"][model]
        if network.head_norm == "layer":
            normed = functional.layer_norm(features, scale.shape, scale, shift)
        else:
            assert running is not None
            mean, variance = running[model]
            normed = functional.batch_norm(features, mean, variance, scale, shift)
        head = weights["linear.weight"][model], weights["linear.bias"][model]
        outputs.append(functional.linear(normed, *head))
    return torch.stack(outputs)
