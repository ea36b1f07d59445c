"""Build the native core, `sensorseq._ops` and `_signal`; the rest is in pyproject.toml."""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

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
    "-g0",  # the flags of Python itself ask for debug information: 34 MB of 36
    "-Wall",
    "-Wextra",
]
if WARNINGS_ARE_ERRORS:
    COMPILE.append("-Werror")


def ops():
    """Return the operators; only they ask for torch."""
    from torch.utils.cpp_extension import CppExtension, include_paths

    # torch's own headers are not ours to keep free of warnings
    headers = [f"-isystem{path}" for path in include_paths()]
    stable_abi = "-DTORCH_TARGET_VERSION=0x020b000000000000"
    return CppExtension(
        "sensorseq._ops",
        find("*.cpp", of_signal=False),
        depends=find("*.h", of_signal=False),
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": [*COMPILE, stable_abi, *headers, "-pthread"]},
        # libtorch.so by name, though no symbol is taken from it at link time: under a CUDA torch it
        # is what brings the weak symbols of the CUDA shim into reach.
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
        extra_compile_args=[*COMPILE, "-pthread", *system_headers],
        extra_objects=[str(path) for path in normal_numbers],
        extra_link_args=["-pthread"],
        language="c++",
    )


def build_by_torch():
    """Return torch's builder, after nvcc has compiled the CUDA part where there is one."""
    from torch.utils.cpp_extension import BuildExtension

    class BuildOps(BuildExtension):
        def build_extensions(self):
            toolkit = build_cuda.plan()
            if toolkit is not None:
                objects = build_cuda.compile_changed(
                    toolkit, warnings_are_errors=WARNINGS_ARE_ERRORS
                )
                library = self.extensions[0]
                library.extra_objects += map(str, objects)
                library.depends += map(str, objects)
                library.extra_compile_args["cxx"] += toolkit.define
                library.extra_link_args += toolkit.link
            super().build_extensions()

    return BuildOps


class TakeOps(build_ext):
    """A builder without torch: it takes the operators as they were built before."""

    def build_extension(self, ext):
        if ext.sources:
            super().build_extension(ext)
        else:
            shutil.copy(BUILT_OPS, self.get_ext_fullpath(ext.name))


class OpsAlone(Distribution):
    """A distribution that reads no pyproject.toml: older setuptools do not understand it."""

    def parse_config_files(self, *args, **kwargs):
        pass


BUILT_OPS = os.environ.get("SENSORSEQ_OPS")  # a library that serves every Python
wanted = os.environ.get("SENSORSEQ_BUILD", "")
if wanted not in ("", "ops"):
    sys.exit(f"sensorseq: SENSORSEQ_BUILD is {wanted!r}; expected ops or nothing.")
if wanted == "ops":
    # the operators alone and in place, on a machine that has torch, numpy and nvcc but little else
    setup(
        distclass=OpsAlone,
        ext_modules=[ops()],
        cmdclass={"build_ext": build_by_torch()},
        options={"build_ext": {"inplace": True}},
    )
elif BUILT_OPS:
    built = Extension("sensorseq._ops", [], py_limited_api=True)
    setup(ext_modules=[built, signal()], cmdclass={"build_ext": TakeOps})
else:
    setup(ext_modules=[ops(), signal()], cmdclass={"build_ext": build_by_torch()})
