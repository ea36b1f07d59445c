"""LSTMLinear against torch.nn.LSTM and torch.nn.Linear on a CPU: inference and a training step.

Same weights, inputs, dtype and threads on both sides; results are compared before any timing. A
training step is forward, cross entropy and backward through autograd.
"""

import argparse

import numpy as np
import torch
from _timing import environment, paired_times, ratio_row, write_results
from torch import nn

from sensorseq.nn import LSTMLinear

N_CLASSES = 8
SHAPES = [  # windows, timesteps, channels, hidden size
    (1, 100, 1, 32),
    (1, 100, 1, 128),
    (4, 100, 1, 128),
    (32, 100, 1, 32),
    (32, 100, 1, 64),
    (32, 100, 1, 128),
    (32, 100, 6, 223),
    (128, 100, 6, 64),
    (128, 100, 6, 128),
    (512, 100, 6, 128),
    (32, 1000, 6, 64),
]


def sides(n_windows, n_timesteps, n_channels, hidden_size):
    """Return the four functions to time: (theirs, ours) for inference and for training."""
    torch.manual_seed(0)
    lstm = nn.LSTM(n_channels, hidden_size, batch_first=True)
    linear = nn.Linear(hidden_size, N_CLASSES)
    module = LSTMLinear.from_torch(lstm, linear)
    x = torch.randn(n_windows, n_timesteps, n_channels)
    y = torch.randint(0, N_CLASSES, (n_windows,))

    def theirs(x):
        return linear(lstm(x)[1][0][-1])

    torch.testing.assert_close(theirs(x), module(x), rtol=1e-4, atol=1e-5)

    def infer(forward):
        def call():
            with torch.no_grad():
                return forward(x)

        return call

    def train(forward, *parameters):
        def call():
            for parameter in parameters:
                parameter.grad = None
            nn.functional.cross_entropy(forward(x), y).backward()

        return call

    return {
        "inference": (infer(theirs), infer(module)),
        "training": (
            train(theirs, *lstm.parameters(), *linear.parameters()),
            train(module, *module.parameters()),
        ),
    }


def main():
    """Time every shape, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(environment())
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for shape in SHAPES:
            for what, (theirs, ours) in sides(*shape).items():
                row = ratio_row(*paired_times(theirs, ours, pairs=options.pairs))
                rows.append({"what": what, "threads": threads, "shape": shape, **row})
                print(
                    f"{what:9} {threads} thr  N={shape[0]:<4}T={shape[1]:<5}C={shape[2]:<2}"
                    f"H={shape[3]:<4} torch {row['theirs_ms']:8.3f} ms  ours"
                    f" {row['ours_ms']:8.3f} ms  {row['ratio']:5.2f}x"
                    f" [{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]",
                    flush=True,
                )
        for what in ("inference", "training"):
            ratios = [r["ratio"] for r in rows if r["what"] == what and r["threads"] == threads]
            mean, worst = np.exp(np.mean(np.log(ratios))), min(ratios)
            print(f"{what:9} {threads} thr  geometric mean {mean:.2f}x, lowest {worst:.2f}x")
    print(f"wrote {write_results('cpu', rows).name}")


if __name__ == "__main__":
    main()
