"""Records the calls of this package's operators that torch sees."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OpCalls(TorchDispatchMode):
    """Records the arguments of every call of some operators, by name."""

    def __init__(self, *names):
        super().__init__()
        self.ops = {getattr(torch.ops.sensorseq, name).default: name for name in names}
        self.calls = {name: [] for name in names}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in self.ops:
            self.calls[self.ops[func]].append(args)
        return func(*args, **(kwargs or {}))
