"""The machine code of the portable kernels: what a time step costs, without a GPU."""

import copy
import json

import ptxas
import pytest
import sass

pytestmark = pytest.mark.native

build_cuda = ptxas.load_build_cuda()
TABLE = json.loads(sass.TABLE.read_text())
# A number may differ from the table by 5 percent, or by a few, because compilers differ a little.
TOLERANCE, FEW = 0.05, 3


@pytest.fixture(scope="module")
def kernels():
    cuobjdump = sass.find_cuobjdump()
    if cuobjdump is None:
        pytest.skip(sass.MISSING)
    if why := ptxas.without_cuda(build_cuda):
        pytest.skip(why)
    return sass.of_build(build_cuda, cuobjdump)


def faults(name, kernel):
    # on 7.5, the compiler lets the lanes of a warp wait for each other and for their loads at the
    # end of a forward step
    if "Forward" in name and "sm_75" in name:
        return []
    return kernel.faults(is_backward="Backward" in name)


def test_no_kernel_uses_local_memory(kernels):
    assert {name: n for name, kernel in kernels.items() if (n := kernel.spills())} == {}


def test_a_step_of_every_kernel_is_scheduled_as_designed(kernels):
    found = {name: faults(name, kernel) for name, kernel in kernels.items()}
    assert {name: some for name, some in found.items() if some} == {}


def test_a_step_of_every_kernel_has_the_instructions_of_the_table(kernels):
    assert list(sass.COLUMNS) == TABLE["columns"]
    assert kernels.keys() == TABLE["steps"].keys()
    differing = {}
    for name, kernel in kernels.items():
        pairs = zip(kernel.counts(), TABLE["steps"][name], strict=True)
        if any(abs(now - then) > max(FEW, TOLERANCE * then) for now, then in pairs):
            differing[name] = kernel.counts(), TABLE["steps"][name]
    assert differing == {}, "if this is meant: python tests/support/sass.py --update"


def late_load(loop):
    next(one for one in loop if one.name == "BAR").cycles += sass.MOST_CYCLES


def awaited_load(loop):
    loop[-1].waits_for |= {next(one.holds for one in loop if one.name == "LDG")}


def activation(loop):
    loop[1].name = "MUFU"


def second_barrier(loop):
    loop[1].name = "BAR"


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (late_load, "cycles after the barrier"),
        (awaited_load, "the step waits for its own load"),
        (activation, "the step computes an activation"),
        (second_barrier, "2 barriers in a step"),
    ],
)
def test_a_fault_that_is_planted_into_a_step_is_found(kernels, plant, fault):
    name = "PortableBackwardKernel<PortableVariant<64>, false> sm_90"
    code = copy.deepcopy(kernels[name].code)
    plant([code[n] for n in sorted(kernels[name].loop)])
    found = faults(name, sass.Kernel(code))
    assert found
    assert all(fault in text for text in found)
