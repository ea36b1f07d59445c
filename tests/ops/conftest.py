import pytest
from isas import EACH_ISA, using_isa


@pytest.fixture(params=EACH_ISA)
def isa(request):
    """Each instruction set in turn, which is the one that is used."""
    with using_isa(request.param):
        yield request.param
