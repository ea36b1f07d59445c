"""LSTM-FCN in plain torch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accuracy.data import Windows
from torch import Tensor, nn

HIDDEN, BATCH = 64, 32
# LSTM-FCN was published with 2000 epochs; this many steps are what a CPU can do here.
FCN_STEPS, FCN_LEAST_EPOCHS = 1000, 5
_PREDICT_BATCH = 256

Predict = Callable[[Windows], np.ndarray]


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

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits; padding is zeros and counts as signal."""
        channels = x.transpose(1, 2)
        state = self.dropout(self.lstm(channels)[1][0][-1])
        return self.linear(torch.cat([state, self.convolutions(channels).mean(2)], 1))


def scaling(windows: Windows) -> tuple[Any, Any]:
    """Return mean and deviation of each channel over the valid steps."""
    X = windows.X
    if windows.lengths is None:
        values = X.reshape(-1, X.shape[2])
    else:
        values = X[np.arange(X.shape[1]) < windows.lengths[:, None]]
    mean, sd = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(sd > 1e-12, sd, 1.0)


def standardize(windows: Windows, mean: Any, sd: Any) -> Any:
    """Scale the channels; padding becomes zero."""
    X = ((windows.X - mean) / sd).astype(np.float32)
    if windows.lengths is not None:
        X[np.arange(X.shape[1]) >= windows.lengths[:, None]] = 0.0
    return X


def fit_lstm_fcn(train: Windows, seed: int, n_classes: int) -> Predict:
    """Fit LSTM-FCN with Adam 1e-3 in batches of 32, shorter than published."""
    torch.manual_seed(seed)
    module = LSTMFCN(train.X.shape[2], n_classes, train.X.shape[1])
    mean, sd = scaling(train)
    X, y = torch.from_numpy(standardize(train, mean, sd)), torch.from_numpy(train.y)
    n_epochs = max(FCN_LEAST_EPOCHS, math.ceil(FCN_STEPS / math.ceil(len(train) / BATCH)))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(seed)
    module.train()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(y), generator=order).split(BATCH):
            if len(rows) == 1 < len(y):
                continue  # batch normalization has no spread of one window
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()
    module.eval()

    def predict(test: Windows) -> np.ndarray:
        X = torch.from_numpy(standardize(test, mean, sd))
        with torch.inference_mode():
            found = [module(block).argmax(1) for block in X.split(_PREDICT_BATCH)]
        return torch.cat(found).numpy()

    return predict
