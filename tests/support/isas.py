"""This processor's instruction sets as parameters of tests, and a switch to one of them.

`make test` tests only the instruction set in use, and CI tests all of them.
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
