"""The instruction sets of this processor, as parameters of tests, and one of them put in use.

`make test` runs the one that is in use, CI all of them.
"""

from contextlib import contextmanager

import pytest

from sensorseq.ops import _extension

ISAS = _extension.cpu_isas()
EACH_ISA = [
    pytest.param(isa, marks=() if isa == _extension.cpu_isa() else pytest.mark.other_isa)
    for isa in ISAS
]


@contextmanager
def using_isa(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORSEQ_CPU_ISA", name)
        yield
