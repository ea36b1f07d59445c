import pytest
from isas import EACH_ISA


@pytest.fixture(params=EACH_ISA)
def isa(request, monkeypatch):
    """Each instruction set in turn, which is the one that is used."""
    monkeypatch.setenv("SENSORSEQ_CPU_ISA", request.param)
    return request.param
