"""Compares fitting many models in one call with fitting them one after another with nn.LSTM.

Our side is the native epoch engine, with all models in one call. torch's side trains one model
after another with Adam, either in a Python loop or with an epoch captured in a CUDA graph that
every model replays. Initial weights, batches and number of epochs are the same; the final weights
are compared before any timing.
"""

import numpy as np
import torch
from common.timing import alternate, repeated, summarize
from cuda.steps import captured
from torch import nn

from sensorseq.errors import EnvironmentProblemError
from sensorseq.nn import LSTMLinear
from sensorseq.ops.choice import allowing_tf32
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper, pack_batches

N_CLASSES = 6
LEARNING_RATE = 1e-3
_TOLERANCE = 0.01  # relative to the distance that the weights moved


class Fits:
    """Fits of M models to the same random windows of one channel, with the same batches."""

    def __init__(self, device, n_models, n_windows, n_timesteps, hidden_size, batch, epochs):
        self.device, self.n_models = device, n_models
        generator = np.random.default_rng(0)
        x = generator.standard_normal((n_windows, n_timesteps, 1), dtype=np.float32)
        y = generator.integers(0, N_CLASSES, n_windows)
        self.x = torch.from_numpy(x + 0.5 * y[:, None, None].astype(np.float32)).to(device)
        self.y = torch.from_numpy(y).to(device)
        self.network = NetworkLayout(1, hidden_size, N_CLASSES)
        self.first = torch.stack(
            [
                self.network.flatten(dict(LSTMLinear(1, hidden_size, N_CLASSES).named_parameters()))
                for _ in range(n_models)
            ]
        ).to(device)
        cuts = range(batch, n_windows, batch)
        # [epoch][model][step]
        self.batches = [
            [np.split(generator.permutation(n_windows), cuts) for _ in range(n_models)]
            for _ in range(epochs)
        ]

    def side_by_side(self):
        """Train all models in one engine; return their weights (M, Q)."""
        trainer = EpochTrainer(
            self.network, self.first, self.x, self.y, make_hyper(self.n_models), optimizer="adam"
        )
        for of_models in self.batches:
            trainer.run(*pack_batches(of_models), LEARNING_RATE)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return trainer.parameters

    def torch_loop(self, in_graphs):
        """Return a function that trains the models one after another and returns their weights."""
        lstm = nn.LSTM(1, self.network.hidden_size, batch_first=True, device=self.device)
        linear = nn.Linear(self.network.hidden_size, N_CLASSES, device=self.device)
        parameters = [*lstm.parameters(), *linear.parameters()]
        on_gpu = self.device.type == "cuda"
        optimizer = torch.optim.Adam(parameters, LEARNING_RATE, capturable=on_gpu, foreach=True)
        rows = [
            torch.tensor(step, device=self.device) for step in self.batches[0][0]
        ]  # static memory, because a graph reads it

        def epoch():
            for step in rows:
                logits = linear(lstm(self.x[step])[1][0][-1])
                loss = nn.functional.cross_entropy(logits, self.y[step])
                for parameter, grad in zip(
                    parameters, torch.autograd.grad(loss, parameters), strict=True
                ):
                    parameter.grad = grad
                optimizer.step()
            return []

        def begin(model):
            parts = self.network.unflatten(self.first[model]).values()
            with torch.no_grad():
                for parameter, part in zip(parameters, parts, strict=True):
                    parameter.copy_(part)
                for state in optimizer.state.values():
                    for value in state.values():
                        value.zero_()

        begin(0)
        epoch()  # creates the optimizer's state
        train = captured(epoch, self.device) if in_graphs else epoch

        def fit():
            weights_of_models = []
            for model in range(self.n_models):
                begin(model)
                for of_models in self.batches:
                    for static, step in zip(rows, of_models[model], strict=True):
                        static.copy_(torch.from_numpy(step), non_blocking=True)
                    train()
                weights_of_models.append(torch.cat([p.detach().reshape(-1) for p in parameters]))
            if on_gpu:
                torch.cuda.synchronize(self.device)
            return torch.stack(weights_of_models)

        return fit


def models_side_by_side(device, *, tiny=False, rounds=3):
    """Return rows for 32 models, each with the times or the reason why they are missing."""
    n_models, sizes, epochs = (2, (9, 6), 2) if tiny else (32, (98, 100), 3)
    rows = []
    for hidden_size, batch in [(5, 4)] if tiny else [(32, 32), (64, 32), (128, 32), (64, 98)]:
        row = {
            "what": "models side by side",
            "precision": "fp32",
            "shape": [*sizes, 1, hidden_size],
            "n_models": n_models,
            "batch": batch,
            "epochs": epochs,
        }
        fits = Fits(device, n_models, *sizes, hidden_size, batch, epochs)
        with allowing_tf32(False):
            try:
                ours = fits.side_by_side()
            except (NotImplementedError, RuntimeError, ValueError) as error:
                first_line = str(error).splitlines()[0]
                reason = f"the epoch engine does not serve {device.type}: {first_line}"
                rows.append({**row, "ratio": None, "reason": reason})
                continue
            for mode in ("eager", "graph"):
                loop = fits.torch_loop(mode == "graph")
                theirs = loop()
                moved = (theirs - fits.first).norm()
                error = float((ours - theirs).norm() / moved)
                if not error <= _TOLERANCE:
                    raise EnvironmentProblemError(
                        f"after {epochs} epochs the weights differ by {error:.2g} of how far they"
                        " went; timing the two sides would be meaningless."
                    )
                times = alternate(
                    repeated(loop),
                    repeated(fits.side_by_side),
                    rounds=rounds,
                    at_least_s=0.0,
                    warm_up_s=0.0,
                    warm_up_runs=1,
                    budget_s=30.0,
                )
                rows.append({**row, "mode": mode, "error": error, **summarize(*times)})
    return rows
