import pytest
from isas import EACH_ISA, using_isa


@pytest.fixture(params=EACH_ISA)
def isa(request):
    """Use each instruction set in turn."""
    with using_isa(request.param):
        yield request.param
