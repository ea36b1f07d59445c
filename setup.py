"""Build the native core, `sensorseq._ops` and `_signal`; the rest is in pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import Distribution, Extension, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a build backend runs this file from elsewhere

import build_cuda  # noqa: E402


def find(pattern, *, of_signal):
    """List files of csrc: those of the preprocessing loops, which know no torch, or the others."""
    found = sorted(p.relative_to(ROOT) for p in (ROOT / "csrc").rglob(pattern))
    return [
        str(p)
        for p in found
        if of_signal == (p.parts[1] == "signal" or p.name.startswith("bindings_signal"))
    ]


WARNINGS_ARE_ERRORS = os.environ.get("SENSORSEQ_WERROR") == "1"

# torch's stable ABI as of 2.11: built under any later version, the library loads in all of them.
# No contraction: a product and a sum are fused only where the source says so, or equal inputs
# could give different bits in a tile and in its tail.
COMPILE = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",  # nothing reads errno, and setting it keeps loops with a root scalar
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
if WARNINGS_ARE_ERRORS:
    COMPILE.append("-Werror")
COMPILE_OPS = [
    *COMPILE,
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
]
# torch's own headers are not ours to keep free of warnings
COMPILE_OPS += [f"-isystem{path}" for path in include_paths()]

OPS = CppExtension(
    "sensorseq._ops",
    find("*.cpp", of_signal=False),
    depends=find("*.h", of_signal=False),
    include_dirs=[str(ROOT / "csrc")],
    extra_compile_args={"cxx": [*COMPILE_OPS, "-pthread"]},
    # libtorch.so by name, though no symbol is taken from it at link time: under a CUDA torch it is
    # what brings the weak symbols of the CUDA shim into reach.
    extra_link_args=["-pthread", "-Wl,--no-as-needed", "-ltorch"],
    py_limited_api=True,
)


def signal():
    """Return the preprocessing loops; only they ask for pybind11, the operators build without."""
    import numpy
    import pybind11

    headers = Path(numpy.get_include())
    normal_numbers = [  # numpy's random numbers for C
        Path(numpy.__file__).parent / "random" / "lib" / "libnpyrandom.a",
        headers.parent / "lib" / "libnpymath.a",
    ]
    system_headers = [f"-isystem{path}" for path in (pybind11.get_include(), headers)]
    return Extension(
        "sensorseq._signal",
        find("*.cpp", of_signal=True),
        depends=[*find("*.h", of_signal=True), *find("*.h", of_signal=False)],  # it shares some
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": [*COMPILE, "-pthread", *system_headers]},
        extra_objects=[str(path) for path in normal_numbers],
        extra_link_args=["-pthread"],
        language="c++",
    )


class BuildOps(BuildExtension):
    """torch's builder, after nvcc has compiled the CUDA part where there is one."""

    def build_extensions(self):
        toolkit = build_cuda.plan()
        if toolkit is not None:
            objects = build_cuda.compile_changed(toolkit, warnings_are_errors=WARNINGS_ARE_ERRORS)
            OPS.extra_objects += map(str, objects)
            OPS.depends += map(str, objects)
            OPS.extra_compile_args["cxx"] += toolkit.define
            OPS.extra_link_args += toolkit.link
        super().build_extensions()


class OpsAlone(Distribution):
    """A distribution that reads no pyproject.toml: older setuptools do not understand it."""

    def parse_config_files(self, *args, **kwargs):
        pass


COMMANDS = {"build_ext": BuildOps}
wanted = os.environ.get("SENSORSEQ_BUILD", "")
if wanted == "ops":
    # the operators alone and in place, on a machine that has torch, numpy and nvcc but little else
    in_place = {"build_ext": {"inplace": True}}
    setup(distclass=OpsAlone, ext_modules=[OPS], cmdclass=COMMANDS, options=in_place)
elif not wanted:
    setup(ext_modules=[OPS, signal()], cmdclass=COMMANDS)
else:
    sys.exit(f"sensorseq: SENSORSEQ_BUILD is {wanted!r}; expected ops or nothing.")
