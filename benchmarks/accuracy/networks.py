"""Rival networks in plain torch: an LSTM with Keras's settings, our default network, LSTM-FCN."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accuracy.data import Windows
from torch import Tensor, nn

HIDDEN, BATCH = 64, 32
KERAS_EPOCHS = 100
# LSTM-FCN was published with 2000 epochs; this many steps are what a CPU can do here.
FCN_STEPS, FCN_LEAST_EPOCHS = 1000, 5
_PREDICT_BATCH = 256

Predict = Callable[[Windows], np.ndarray]


class PlainLSTM(nn.Module):
    """`torch.nn.LSTM` and a linear layer on its last step, or on the mean and maximum of all."""

    def __init__(self, n_channels: int, n_classes: int, pooling: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(n_channels, HIDDEN, batch_first=True)
        self.linear = nn.Linear(HIDDEN * (2 if pooling == "meanmax" else 1), n_classes)
        self.pooling = pooling
        gates = self.lstm.bias_ih_l0.numel() // 4
        with torch.no_grad():  # Keras's initial weights, which are also our defaults
            nn.init.xavier_uniform_(self.lstm.weight_ih_l0)
            nn.init.orthogonal_(self.lstm.weight_hh_l0)
            nn.init.xavier_uniform_(self.linear.weight)
            for bias in (self.lstm.bias_ih_l0, self.lstm.bias_hh_l0, self.linear.bias):
                bias.zero_()
            self.lstm.bias_ih_l0[gates : 2 * gates] = 1.0  # of the forget gate

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the logits. A step never sees later ones, so padding needs no packing."""
        hidden = self.lstm(x)[0]
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1])
        if self.pooling == "last":
            return self.linear(hidden[torch.arange(len(x)), lengths - 1])
        valid = (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]
        mean = (hidden * valid).sum(1) / lengths[:, None]
        highest = hidden.masked_fill(~valid, -math.inf).amax(1)
        return self.linear(self.dropout(torch.cat([mean, highest], 1)))


class LSTMFCN(nn.Module):
    """LSTM-FCN (Karim et al. 2017): an LSTM over channels beside three convolutions over time.

    As published, the LSTM reads the channels as its steps, and a window as one step's features.
    """

    def __init__(self, n_channels: int, n_classes: int, n_timesteps: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_timesteps, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(0.8)
        layers: list[nn.Module] = []
        for n_in, n_out, taps in ((n_channels, 128, 8), (128, 256, 5), (256, 128, 3)):
            layers += [nn.ConstantPad1d(((taps - 1) // 2, taps // 2), 0.0)]
            layers += [nn.Conv1d(n_in, n_out, taps), nn.BatchNorm1d(n_out), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(HIDDEN + 128, n_classes)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the logits; padding is zeros and counts as signal."""
        channels = x.transpose(1, 2)
        state = self.dropout(self.lstm(channels)[1][0][-1])
        return self.linear(torch.cat([state, self.convolutions(channels).mean(2)], 1))


def fit_keras_like(train: Windows, seed: int, n_classes: int) -> Predict:
    """Fit an LSTM as Keras would: Adam 1e-3, last step, batches of 32, 100 epochs."""
    torch.manual_seed(seed)
    module = PlainLSTM(train.X.shape[2], n_classes, "last")
    n_steps = KERAS_EPOCHS * math.ceil(len(train) / BATCH)
    return _fit(module, train, seed, n_steps, eps=1e-7)


def fit_same_steps(train: Windows, seed: int, n_classes: int, n_steps: int) -> Predict:
    """Fit the network and optimizer of our defaults in torch for `n_steps` steps."""
    torch.manual_seed(seed)
    module = PlainLSTM(train.X.shape[2], n_classes, "meanmax", dropout=0.3)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-3)
    return _fit(module, train, seed, n_steps, optimizer=optimizer, cosine=True, max_norm=1.0)


def fit_lstm_fcn(train: Windows, seed: int, n_classes: int) -> Predict:
    """Fit LSTM-FCN with Adam 1e-3 in batches of 32, shorter than published."""
    torch.manual_seed(seed)
    module = LSTMFCN(train.X.shape[2], n_classes, train.X.shape[1])
    per_epoch = math.ceil(len(train) / BATCH)
    n_steps = per_epoch * max(FCN_LEAST_EPOCHS, math.ceil(FCN_STEPS / per_epoch))
    return _fit(module, train, seed, n_steps)


def scaling(windows: Windows) -> tuple[Any, Any]:
    """Return mean and deviation of each channel over the valid steps."""
    X = windows.X
    if windows.lengths is None:
        values = X.reshape(-1, X.shape[2])
    else:
        values = X[np.arange(X.shape[1]) < windows.lengths[:, None]]
    mean, sd = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(sd > 1e-12, sd, 1.0)


def standardise(windows: Windows, mean: Any, sd: Any) -> Any:
    """Scale the channels; padding becomes zero."""
    X = ((windows.X - mean) / sd).astype(np.float32)
    if windows.lengths is not None:
        X[np.arange(X.shape[1]) >= windows.lengths[:, None]] = 0.0
    return X


def _fit(
    module: nn.Module,
    train: Windows,
    seed: int,
    n_steps: int,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    eps: float = 1e-8,
    cosine: bool = False,
    max_norm: float | None = None,
) -> Predict:
    mean, sd = scaling(train)
    X, y = torch.from_numpy(standardise(train, mean, sd)), torch.from_numpy(train.y)
    lengths = None if train.lengths is None else torch.from_numpy(train.lengths)
    optimizer = optimizer or torch.optim.Adam(module.parameters(), lr=1e-3, eps=eps)
    least = optimizer.param_groups[0]["lr"] / 100
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps, least)
    order = torch.Generator().manual_seed(seed)
    module.train()
    taken = 0
    while taken < n_steps:
        for rows in torch.randperm(len(y), generator=order).split(BATCH):
            if taken == n_steps:
                break
            taken += 1
            if len(rows) == 1 < len(y):
                continue  # batch normalization has no spread of one window
            optimizer.zero_grad()
            logits = module(X[rows], None if lengths is None else lengths[rows])
            nn.functional.cross_entropy(logits, y[rows]).backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), max_norm)
            optimizer.step()
            if cosine:
                decay.step()
    module.eval()

    def predict(test: Windows) -> np.ndarray:
        X = torch.from_numpy(standardise(test, mean, sd))
        lengths = None if test.lengths is None else torch.from_numpy(test.lengths)
        with torch.inference_mode():
            found = [
                module(X[rows], None if lengths is None else lengths[rows]).argmax(1)
                for rows in torch.arange(len(X)).split(_PREDICT_BATCH)
            ]
        return torch.cat(found).numpy()

    return predict
