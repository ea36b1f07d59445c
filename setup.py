"""Build the native core, `sensorseq._ops`, `_signal` and `_core`; see also pyproject.toml."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a build backend runs this file from another folder

import build_cuda  # noqa: E402


def find(patterns):
    """List the files of csrc that match one of the patterns."""
    found = (p for pattern in patterns for p in sorted((ROOT / "csrc").glob(pattern)))
    return [str(p.relative_to(ROOT)) for p in found]


SYSTEM = sysconfig.get_platform()  # for which we build, such as linux-x86_64
IS_MAC = SYSTEM.startswith("macosx")
WARNINGS_ARE_ERRORS = os.environ.get("SENSORSEQ_WERROR") == "1"

# Without -ffp-contract=off, the compiler could fuse a product and a sum in one place and not in
# another, and equal inputs could give different bits in a full tile and in a partial one.
COMPILE = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",  # nothing reads errno, and setting it prevents vectorizing loops with roots
    "-fvisibility=hidden",
    "-g0",  # Python's own flags request debug information, which takes 34 of 36 MB
    "-Wall",
    "-Wextra",
]
if WARNINGS_ARE_ERRORS:
    COMPILE.append("-Werror")

# the sources of each library, below csrc
OPS = ("base/*.cpp", "bind/ops*.cpp", "cpu/*.cpp")
SIGNAL = ("bind/signal*.cpp", "c_api/c_api_status.cpp", "signal/*.cpp")
CORE = ("base/*.cpp", "c_api/*.cpp", "cpu/*.cpp", "signal/*.cpp")
TRAINING = ("augment", "ends", "lstm_linear_loss", "moments", "train_epoch")  # not for prediction
HEADERS = ("**/*.h",)


def ops():
    """Return the operators, the only library that needs torch."""
    from torch.utils.cpp_extension import CppExtension, include_paths

    # we cannot keep torch's own headers free of warnings
    headers = [f"-isystem{path}" for path in include_paths()]
    # torch's stable ABI of version 2.11, so the library also loads in every later version
    stable_abi = "-DTORCH_TARGET_VERSION=0x020b000000000000"
    return CppExtension(
        "sensorseq._ops",
        find(OPS),
        depends=find(HEADERS),
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": [*COMPILE, stable_abi, *headers, "-pthread"]},
        # No symbol of libtorch.so is needed at link time, but with a CUDA torch, libtorch.so makes
        # the weak symbols of the CUDA shim available.
        extra_link_args=["-pthread", *([] if IS_MAC else ["-Wl,--no-as-needed", "-ltorch"])],
        py_limited_api=True,
    )


def signal():
    """Return the preprocessing loops, the only library that needs pybind11."""
    import pybind11

    # numpy is located but not imported, because it may be built for another processor
    numpy = Path(importlib.util.find_spec("numpy").origin).parent
    (headers,) = numpy.glob("*core/include")  # core/, or _core/ in numpy 2
    normal_numbers = [  # numpy's random numbers for C
        numpy / "random" / "lib" / "libnpyrandom.a",
        headers.parent / "lib" / "libnpymath.a",
    ]
    system_headers = [f"-isystem{path}" for path in (pybind11.get_include(), headers)]
    return Extension(
        "sensorseq._signal",
        find(SIGNAL),
        depends=find(HEADERS),
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args=[*COMPILE, "-pthread", *system_headers],
        extra_objects=[str(path) for path in normal_numbers],
        extra_link_args=["-pthread"],
        language="c++",
    )


def core():
    """Return the plain C library of csrc/c_api/c_api.h, which needs neither Python nor torch."""
    exports = "csrc/c_api/core.map"
    closed = ["-Wl,--no-undefined", f"-Wl,--version-script={exports}"]
    if IS_MAC:  # its linker has no version scripts, and needs none: other names are hidden
        closed = ["-Wl,-undefined,error"]
    return Extension(
        "sensorseq._core",
        [name for name in find(CORE) if Path(name).stem not in TRAINING],
        depends=[exports, *find(HEADERS)],
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args=[*COMPILE, "-pthread"],
        extra_link_args=["-pthread", *closed],
        language="c++",
        py_limited_api=True,  # the library does not use Python, so every version can load it
    )


def share_objects(builder):
    """Let the last library use the object files of the others, so no file is compiled twice."""
    *others, last = builder.extensions
    compiled = {source for library in others for source in library.sources}
    shared = [source for source in last.sources if source in compiled]
    last.sources = [source for source in last.sources if source not in compiled]
    last.depends += shared
    last.extra_objects += builder.compiler.object_filenames(shared, output_dir=builder.build_temp)


def build_by_torch():
    """Return torch's builder, which first compiles the CUDA part as `build_cuda.plan` decides."""
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
            share_objects(self)
            super().build_extensions()

    return BuildOps


class TakeBuilt(build_ext):
    """A builder without torch: it copies libraries that were built earlier."""

    def build_extension(self, ext):
        if ext.sources:
            super().build_extension(ext)
        else:
            (built,) = Path(BUILT_OPS).parent.glob(f"{ext.name.rpartition('.')[2]}*.so")
            target = Path(self.get_ext_fullpath(ext.name))
            target.parent.mkdir(parents=True, exist_ok=True)  # missing if the install is editable
            shutil.copy(built, target)


def runtime():
    """Return the settings of `sensorseq-runtime`, which contains files of sensorseq and `_core`."""
    import tomllib

    from setuptools.command.bdist_wheel import bdist_wheel
    from setuptools.config.expand import read_attr

    sys.path.insert(0, str(ROOT / "runtime"))
    import room

    class AnyPython(bdist_wheel):
        def get_tag(self):
            return "py3", "none", super().get_tag()[2]

    folder = ROOT / "build" / "runtime"
    shutil.rmtree(folder, ignore_errors=True)
    packages = room.copy(folder)
    beside = Path(BUILT_OPS).parent if BUILT_OPS else ROOT / "sensorseq"
    (library,) = beside.glob("_core*.so")
    shutil.copy(library, folder / "sensorseq_runtime" / "_core.so")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        "distclass": WithLibrary,
        "name": "sensorseq-runtime",
        "version": read_attr("sensorseq.__version__", root_dir=ROOT),
        "description": "Predict with models of sensorseq: numpy and one C library, no torch",
        "long_description": (ROOT / "runtime" / "README.md").read_text("utf-8"),
        "long_description_content_type": "text/markdown",
        "author": project["authors"][0]["name"],
        "keywords": project["keywords"],
        "license": project["license"],
        # only the toolkit contains code of numpy and pybind11
        "license_files": [
            name
            for name in ("LICENSE", "LICENSE.gcc.txt", "LICENSE.zig.txt")
            if (ROOT / name).exists()
        ],
        "python_requires": ">=3.9",
        "install_requires": ["numpy>=1.21"],
        "packages": packages,
        "package_dir": {"": str(folder.relative_to(ROOT))},
        "package_data": {"sensorseq_runtime": ["_core.so"]},
        "entry_points": {"console_scripts": ["sensorseq-run = sensorseq_runtime.__main__:main"]},
        "cmdclass": {"bdist_wheel": AnyPython},
        "options": {"build": {"build_base": str(folder / "build")}},
    }


class OpsAlone(Distribution):
    """A distribution that ignores pyproject.toml, which older setuptools do not understand."""

    def parse_config_files(self, *args, **kwargs):
        pass


class WithLibrary(OpsAlone):
    """A distribution with a library, so that its wheel is specific to this system."""

    def has_ext_modules(self):
        return True


if not SYSTEM.startswith(("linux", "macosx")):
    sys.exit(
        f"sensorseq: {SYSTEM} is not supported, only Linux and macOS. Install it in a Linux"
        " container (on Windows, also in WSL 2)."
    )
if IS_MAC:
    sys.stderr.write(
        "sensorseq: nobody has run it on macOS yet; check it with `sensorseq doctor --self`.\n"
    )
BUILT_OPS = os.environ.get("SENSORSEQ_OPS")  # a built library, which works with every Python
wanted = os.environ.get("SENSORSEQ_BUILD", "")
if wanted not in ("", "ops", "core", "runtime"):
    sys.exit(f"sensorseq: SENSORSEQ_BUILD is {wanted!r}; expected ops, core, runtime or nothing.")
if wanted == "ops":
    # Build in place only the libraries that work with every Python: the machine may have little
    # more than torch, numpy and nvcc.
    setup(
        distclass=OpsAlone,
        ext_modules=[ops(), core()],
        cmdclass={"build_ext": build_by_torch()},
        options={"build_ext": {"inplace": True}},
    )
elif wanted == "core":
    # may be built for another processor, because it does not depend on this Python
    setup(distclass=OpsAlone, ext_modules=[core()], options={"build_ext": {"inplace": True}})
elif wanted == "runtime":
    setup(**runtime())
elif BUILT_OPS:
    built = [Extension(f"sensorseq.{name}", [], py_limited_api=True) for name in ("_ops", "_core")]
    setup(ext_modules=[*built, signal()], cmdclass={"build_ext": TakeBuilt})
elif sys.argv[1:2] in (["dist_info"], ["egg_info"]):
    setup()  # only the metadata are wanted, and importing torch takes seconds
else:
    setup(ext_modules=[ops(), signal(), core()], cmdclass={"build_ext": build_by_torch()})
