"""Runs the worker of the GPU check on the fake CUDA layer of bindings_on_cpu.cpp.

gpu_worker_on_cpu.py LIBRARY [CASE]: a CUDA call fails in the case with number CASE.
"""

import sys

import torch

torch.ops.load_library(sys.argv[1])
torch.set_num_threads(1)

from sensorseq.ops import kernel_cases  # noqa: E402

gpu, ours = torch.ops.gpu_on_cpu, torch.ops.sensorseq
compute, precision, n_calls = kernel_cases.compute, "", 0


def computed(case, device):
    global precision, n_calls
    precision = case.precision
    if sys.argv[2:] == [str(n_calls)]:
        gpu.fail_next(False)
    n_calls += 1
    return compute(case, device)


def train_epoch(*arguments):
    gpu.expect_fp16(precision == "fp16")
    gpu.train_epoch(*arguments[:-1], precision)


for name in ("lstm", "lstm_backward", "lstm_linear", "lstm_linear_backward"):
    setattr(ours, name, getattr(gpu, name))
ours.train_epoch = train_epoch
kernel_cases.compute = computed
sys.exit(kernel_cases.main())
