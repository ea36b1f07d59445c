"""Build the native core, `sensorseq._ops`; everything else is in pyproject.toml."""

import os
from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

ROOT = Path(__file__).resolve().parent
SOURCES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.cpp"))
HEADERS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.h"))

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
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
]
# torch's own headers are not ours to keep free of warnings
COMPILE += [f"-isystem{path}" for path in include_paths()]
if os.environ.get("SENSORSEQ_WERROR") == "1":
    COMPILE.append("-Werror")

setup(
    ext_modules=[
        CppExtension(
            "sensorseq._ops",
            SOURCES,
            depends=HEADERS,
            include_dirs=[str(ROOT / "csrc")],
            extra_compile_args={"cxx": COMPILE},
            # libtorch.so by name, though no symbol is taken from it at link time: under a CUDA
            # torch it is what brings the weak symbols of the CUDA shim into reach.
            extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
