"""A reference implementation in plain torch, for any dtype.

Every kernel is tested against this code, and a test compares this code with `torch.nn.LSTM` and
`torch.nn.Linear`. This code also computes second derivatives, and runs calls that neither a kernel
nor torch's own LSTM supports. The letters in shapes mean: M models, N windows, T timesteps, C
channels, hidden size H, D directions, and K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

FOCAL_GAMMA = 2.0  # recommended by the paper that `window_losses` cites


def project(x: Tensor, weight_ih: Tensor, bias: Tensor) -> Tensor:
    """Return the input's contribution to the gates of all steps, of shape (M, N, T, D * 4H).

    The gates of one unit are adjacent. `lstm` accepts the result as `x` if `weight_ih` is empty,
    with shape (M, D, 4H, 0); in this case, `lstm` does not add the bias again.
    """
    n_models, n_directions, n_gates, n_channels = weight_ih.shape
    _, n_windows, n_timesteps, _ = x.shape
    width = n_directions * n_gates
    by_unit = (n_models, n_directions, 4, n_gates // 4)
    weight = weight_ih.view(*by_unit, n_channels).transpose(2, 3).reshape(-1, width, n_channels)
    bias = bias.view(by_unit).transpose(2, 3).reshape(-1, 1, width)
    x = x.expand(n_models, n_windows, n_timesteps, n_channels).flatten(1, 2)
    return torch.baddbmm(bias, x, weight.mT).view(n_models, n_windows, n_timesteps, width)


def is_projected(x: Tensor, weight_ih: Tensor) -> bool:
    """Test whether `x` is a result of `project`."""
    return weight_ih.shape[3] == 0 and x.shape[3] != 0


def lstm(
    x: Tensor,
    lengths: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer in each direction, with the arguments and results of `sensorseq.ops.lstm`.

    `x` may be the result of `project`. Steps from `lengths` on are not read, so they may be NaN.
    The hidden states of the reverse direction are stored at the steps for which they were computed.
    """
    n_models, n_directions, _, hidden_size = weight_hh.shape
    _, n_windows, n_timesteps, n_channels = x.shape
    x = x.expand(n_models, n_windows, n_timesteps, n_channels)
    steps = torch.arange(n_timesteps, device=x.device)
    if lengths is None:
        valid = torch.ones(n_windows, n_timesteps, dtype=torch.bool, device=x.device)
        backwards = (n_timesteps - 1 - steps).expand(n_windows, n_timesteps)
    else:
        lengths = lengths.to(x.device)
        valid = steps < lengths[:, None]
        # reverses the valid steps and keeps padding in place, so it is its own inverse
        backwards = torch.where(valid, lengths[:, None] - 1 - steps, steps)
    x = torch.where(valid[None, :, :, None], x, x.new_zeros(()))

    outputs, last_h, last_c = [], [], []
    for direction in range(n_directions):
        if is_projected(x, weight_ih):
            of_units = x.unflatten(-1, (n_directions, hidden_size, 4))[..., direction, :, :]
            projected = of_units.mT.flatten(-2)
        else:
            projected = x @ weight_ih[:, direction, None].mT + bias[:, direction, None, None]
        order = backwards[None, :, :, None]
        if direction == 1:
            projected = projected.gather(2, order.expand_as(projected))
        zeros = x.new_zeros(n_models, n_windows, hidden_size)
        h = zeros if h_0 is None else h_0[:, :, direction]
        c = zeros if c_0 is None else c_0[:, :, direction]
        hidden = []
        for step in range(n_timesteps):
            recurrent = h if recurrent_mask is None else h * recurrent_mask[:, :, direction]
            gates = projected[:, :, step] + recurrent @ weight_hh[:, direction].mT
            i, f, g, o = gates.chunk(4, dim=-1)
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_h = o.sigmoid() * new_c.tanh()
            alive = valid[None, :, step, None]
            c = torch.where(alive, new_c, c)
            h = torch.where(alive, new_h, h)
            hidden.append(torch.where(alive, new_h, new_h.new_zeros(())))
        sequence = (
            torch.stack(hidden, dim=2)
            if hidden
            else x.new_zeros(n_models, n_windows, 0, hidden_size)
        )
        if direction == 1:
            sequence = sequence.gather(2, order.expand_as(sequence))
        outputs.append(sequence)
        last_h.append(h)
        last_c.append(c)
    return torch.cat(outputs, dim=-1), torch.stack(last_h, dim=2), torch.stack(last_c, dim=2)


def pool(hidden: Tensor, h_n: Tensor, lengths: Tensor | None, pooling: str) -> Tensor:
    """Reduce the hidden sequence to one vector per window, with zeros for windows of length 0.

    `last` is the final state of each direction; `meanmax` is the mean followed by the maximum.
    """
    n_models, n_windows, n_timesteps, width = hidden.shape
    if lengths is None:
        lengths = torch.full((n_windows,), n_timesteps, device=hidden.device)
    lengths = lengths.to(hidden.device)
    some = (lengths > 0)[None, :, None]
    zero = hidden.new_zeros(())
    if pooling == "last":
        return torch.where(some, h_n.flatten(2), zero)
    mean = hidden.sum(dim=2) / lengths.clamp(min=1).to(hidden.dtype)[None, :, None]
    if pooling == "mean":
        return mean
    if n_timesteps == 0:
        largest = hidden.new_zeros(n_models, n_windows, width)
    else:
        steps = torch.arange(n_timesteps, device=hidden.device)
        beyond = (steps >= lengths[:, None])[None, :, :, None]
        largest = hidden.masked_fill(beyond, -torch.inf).max(dim=2).values
        largest = torch.where(some, largest, zero)
    return largest if pooling == "max" else torch.cat([mean, largest], dim=-1)


def lstm_linear(
    x: Tensor,
    lengths: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    pooling: str = "last",
) -> tuple[Tensor, Tensor, Tensor]:
    """Run `lstm`, pool the hidden states and apply a linear head; see `sensorseq.ops`."""
    hidden, h_n, c_n = lstm(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
    pooled = pool(hidden, h_n, lengths, pooling)
    return pooled @ weight_out.mT + bias_out[:, None], h_n, c_n


def window_losses(
    logits: Tensor, class_index: Tensor, loss: str = "cross_entropy", label_smoothing: float = 0.0
) -> Tensor:
    """Compute the loss of each window, of shape (...), from logits (..., K) and class_index (...).

    ``"focal"`` is cross-entropy times ``(1 - p)**2`` (T.-Y. Lin et al., *Focal Loss for Dense
    Object Detection*, 2017). With label smoothing s, the target is ``1 - s + s / K`` for the true
    class and ``s / K`` for the other classes.
    """
    n_classes = logits.shape[-1]
    log_p = functional.log_softmax(logits, dim=-1)
    if loss == "cross_entropy":
        # torch's own loss would ignore a class index of -100
        of_class = -log_p.gather(-1, class_index[..., None])[..., 0]
        if label_smoothing == 0.0:
            return of_class
        return (1.0 - label_smoothing) * of_class - label_smoothing * log_p.mean(dim=-1)
    one_hot = functional.one_hot(class_index, n_classes).to(logits.dtype)
    target = one_hot * (1.0 - label_smoothing) + label_smoothing / n_classes
    # For p near one, the sum of the other probabilities would also give 1 - p accurately, but expm1
    # is faster.
    distance = -torch.expm1(log_p)
    return -(target * distance**FOCAL_GAMMA * log_p).sum(dim=-1)


def mean_loss(
    logits: Tensor,
    class_index: Tensor,
    sample_weight: Tensor | None,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean (M,) of the windows' losses, computed from their logits (M, N, K)."""
    losses = window_losses(logits, class_index.expand(logits.shape[:2]), loss, label_smoothing)
    if sample_weight is not None:
        losses = losses * sample_weight
    return losses.mean(dim=-1)
