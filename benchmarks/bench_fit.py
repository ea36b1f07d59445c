"""Compares `fit` with peers, and fitting many models in one call with fits in two processes.

Fits: 98 synthetic windows of 100 timesteps and one channel, in six classes. The peers are a torch
loop, skorch and Keras. All sides use the same network (LSTM, its last state, a linear layer), Adam,
cross entropy, the same batch size and number of epochs, and no validation, early stopping,
schedule, clipping or scaling. Each peer and our side are timed alternately. Each timing covers a
complete fit. For torch, skorch and sensorseq it includes creating the network; for Keras it
excludes creation and compilation, because the model is created, compiled and fitted once
beforehand. Keras runs on torch. Each library draws its own initial weights; ours are drawn like
torch's. Before the timing, every side learns the task until its training loss is low, so that no
side is fast only because it computes less.

Models: eight models with different seeds train on the same windows, side by side in the native
engine with two threads. They are compared with two warm processes that use the same engine with one
thread each. Each process trains four of the models, one after another. The weights of a model must
be the same in both cases, bit for bit.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from common.print_rows import print_rows
from common.results_file import begin, write_results
from common.timing import alternate, environment, repeated, summarize
from common.waiting import refuse_sleeping_threads
from torch import nn

from sensorseq import SensorLSTMClassifier
from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper, pack_batches

SHAPE, N_CLASSES = (98, 100, 1), 6
EPOCHS = {32: 5, 4: 2, 2: 1, 98: 4}  # keys are batch sizes; 98 is the full batch
HIDDEN_SIZES = (32, 64, 223)
LEARNING_RATE = 1e-3
N_MODELS = 8
MODEL_EPOCHS = 10
MODEL_CASES = [(2, 32), (8, 32), (32, 32), (98, 32), (2, 64), (8, 64), (8, 128)]  # batch, H


def make_windows():
    """Return noisy currents of unit variance whose level and ripple depend on the class."""
    rng = np.random.default_rng(0)
    n_windows, n_timesteps, _ = SHAPE
    y = np.arange(n_windows) % N_CLASSES
    phase = rng.uniform(0, 2 * np.pi, (n_windows, 1))
    ripple = np.sin(0.2 * (1 + y[:, None]) * np.arange(n_timesteps) + phase)
    X = y[:, None] + 0.2 * ripple + 0.2 * rng.standard_normal((n_windows, n_timesteps))
    X = X[:, :, None]
    return ((X - X.mean()) / X.std()).astype(np.float32), y.astype(np.int64)


class LastState(nn.Module):
    """The peers' network: the last state of an LSTM and a linear layer."""

    def __init__(self, hidden_size):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, N_CLASSES)

    def forward(self, x):
        """Return the logits."""
        return self.linear(self.lstm(x)[1][0][-1])


# Each function below returns a function that fits and returns the last epoch's training loss.


def fit_ours(X, y, hidden_size, batch, epochs):
    """Fit our estimator without the steps that the peers lack."""

    def fit():
        classifier = SensorLSTMClassifier(
            hidden_size=hidden_size,
            pooling="last",
            weight_init="uniform",
            recurrent_init="uniform",
            batch_size=batch,
            max_epochs=epochs,
            learning_rate=LEARNING_RATE,
            lr_schedule="constant",
            optimizer="adam",
            dropout=0.0,
            weight_decay=0.0,
            warmup_epochs=0,
            features=None,
            refit=None,
            patch=None,
            max_grad_norm=None,
            scale=None,
            validation_fraction=0.0,
            early_stopping=False,
            random_state=0,
        ).fit(X, y)
        return classifier.history_["loss"][-1]

    return fit


def fit_torch(X, y, hidden_size, batch, epochs):
    """Fit with a hand-written torch loop."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def fit():
        torch.manual_seed(0)
        module = LastState(hidden_size)
        optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
        for _ in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(X)).split(batch):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(X[rows]), y[rows])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
        return total / len(X)

    return fit


def fit_skorch(X, y, hidden_size, batch, epochs):
    """Fit the same module in skorch's classifier."""
    import skorch

    def fit():
        torch.manual_seed(0)
        net = skorch.NeuralNetClassifier(
            LastState,
            module__hidden_size=hidden_size,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            batch_size=batch,
            max_epochs=epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(X, y)
        return net.history[-1]["train_loss"]

    return fit


def fit_keras(X, y, hidden_size, batch, epochs):
    """Make and compile Keras's LSTM and Dense once; each fit trains them further."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input(X.shape[1:]),
            keras.layers.LSTM(hidden_size),
            keras.layers.Dense(N_CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="sparse_categorical_crossentropy"
    )

    def fit():
        history = model.fit(X, y, epochs=epochs, batch_size=batch, verbose=0)
        return history.history["loss"][-1]

    return fit


PEERS = {"torch": fit_torch, "skorch": fit_skorch, "keras": fit_keras}


def bench_fits(threads, rounds, peers, batches):
    """Yield a row for each batch size, hidden size and peer."""
    X, y = make_windows()
    for batch in batches:
        for hidden_size in HIDDEN_SIZES:
            sizes = X, y, hidden_size, batch, EPOCHS[batch]
            for peer in peers:
                times = alternate(
                    repeated(PEERS[peer](*sizes)),
                    repeated(fit_ours(*sizes)),
                    rounds=rounds,
                    at_least_s=0.0,
                    warm_up_runs=1,
                    budget_s=2.0,
                )
                yield {
                    "what": "fit",
                    "threads": threads,
                    "shape": [*SHAPE, hidden_size],
                    "batch": batch,
                    "hidden_size": hidden_size,
                    "epochs": EPOCHS[batch],
                    "peer": peer,
                    **summarize(*times),
                }


def check_learning(peers):
    """Train every side and compare the training losses."""
    sizes = *make_windows(), 32, 32, 100
    losses = {peer: float(PEERS[peer](*sizes)()) for peer in peers}
    losses["sensorseq"] = float(fit_ours(*sizes)())
    print("training loss after 100 epochs:", {k: round(v, 3) for k, v in losses.items()})
    guessing = math.log(N_CLASSES)
    if not max(losses.values()) < 0.5 * guessing:
        raise SystemExit(f"a side did not learn; guessing gives {guessing:.2f}")


def train_models(seeds, batch, hidden_size):
    """Train one model per seed side by side, one epoch per call; return digests of the weights."""
    X, y = make_windows()
    network = NetworkLayout(1, hidden_size, N_CLASSES)
    first, orders = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        module = LSTMLinear(1, hidden_size, N_CLASSES)
        first.append(network.flatten(dict(module.named_parameters())))
        orders.append(np.random.default_rng(seed))
    trainer = EpochTrainer(
        network,
        torch.stack(first),
        torch.from_numpy(X),
        torch.from_numpy(y),
        make_hyper(len(seeds)),
        optimizer="adam",
    )
    for _ in range(MODEL_EPOCHS):
        batches = [
            np.split(order.permutation(len(X)), range(batch, len(X), batch)) for order in orders
        ]
        trainer.run(*pack_batches(batches), LEARNING_RATE)
    return [hashlib.sha256(weights.numpy()).hexdigest() for weights in trainer.parameters]


def train_one_by_one(seeds, batch, hidden_size):
    """Train the same models one after another."""
    return [digest for seed in seeds for digest in train_models([seed], batch, hidden_size)]


def bench_models(rounds, cases):
    """Yield a row for each case, comparing two processes with a single process on two cores."""
    torch.set_num_threads(2)
    halves = list(range(N_MODELS // 2)), list(range(N_MODELS // 2, N_MODELS))
    with ProcessPoolExecutor(
        2,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        for batch, hidden_size in cases:

            def in_processes(_, sizes=(batch, hidden_size)):
                parts = [pool.submit(train_one_by_one, half, *sizes) for half in halves]
                return [digest for part in parts for digest in part.result()]

            def side_by_side(_, sizes=(batch, hidden_size)):
                return train_models(range(N_MODELS), *sizes)

            if in_processes(1) != side_by_side(1):
                raise SystemExit(
                    f"batch {batch}, H={hidden_size}: the sides end with different bits"
                )
            times = alternate(
                in_processes,
                side_by_side,
                rounds=rounds,
                at_least_s=0.0,
                warm_up_runs=1,
                budget_s=8.0,
            )
            yield {
                "what": "models",
                "threads": 2,
                "shape": [*SHAPE, hidden_size],
                "batch": batch,
                "hidden_size": hidden_size,
                "epochs": MODEL_EPOCHS,
                "n_models": N_MODELS,
                "peer": "two processes",
                **summarize(*times),
            }


def main():
    """Time both tables, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", choices=PEERS, nargs="+", default=list(PEERS))
    parser.add_argument("--models", action="store_true", help="only the models side by side")
    parser.add_argument("--quick", action="store_true", help="a few cases, as a smoke test")
    options = parser.parse_args()
    refuse_sleeping_threads()
    missing = [peer for peer in options.peers if importlib.util.find_spec(peer) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not installed here; `make bench` has them.")
    partial = options.models or options.quick or options.peers != list(PEERS)
    partial = partial or options.threads != [1, 2]
    code = begin(__file__, partial=partial)
    print(environment())
    rows, rounds = [], 2 if options.quick else options.rounds
    if not options.models:
        check_learning(options.peers)
        batches = [32] if options.quick else EPOCHS
        for threads in options.threads:
            torch.set_num_threads(threads)
            rows += print_rows(bench_fits(threads, rounds, options.peers, batches))
    rows += print_rows(bench_models(rounds, MODEL_CASES[1:3] if options.quick else MODEL_CASES))
    versions = {peer: importlib.metadata.version(peer) for peer in options.peers}
    write_results("fit", rows, code=code, partial=partial, **versions)


if __name__ == "__main__":
    main()
