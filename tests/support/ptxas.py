"""Reads ptxas's output for the CUDA kernels of this build, and updates the table of resources.

`python tests/support/ptxas.py --update` rewrites the table; review its changes.
"""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "cuda" / "resources.json"


def load_build_cuda():
    """Import build_cuda.py, which is beside setup.py and in no package."""
    spec = importlib.util.spec_from_file_location("build_cuda", ROOT / "build_cuda.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_cuda"] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


NOT_FOR_ALL = "CUDA is not built for all GPUs from these sources: run `make cuda`"


def without_cuda(build_cuda):
    """Return why there are no objects of today's sources for all GPUs, or an empty string."""
    try:
        toolkit = build_cuda.find_toolkit(os.environ)
    except build_cuda.LeftOutError as reason:
        return f"no nvcc: {reason}"
    return "" if build_cuda.is_current(toolkit) else NOT_FOR_ALL


@dataclasses.dataclass
class Output:
    """The resources of each kernel and architecture in a file, and the faults found."""

    kernels: dict[str, dict[str, int]]
    faults: list[str]


def read(text):
    """Read the output of nvcc with -Xptxas -v."""
    kernels, faults, function = {}, [], "no function"
    names = demangled(re.findall(r"(?:entry function '|properties for )(\w+)", text))
    arch = ""
    for line in text.splitlines():
        if match := re.search(r"entry function '(\w+)' for '(\w+)'", line):
            arch = match[2]
            kernels[f"{short(names[match[1]])} {arch}"] = {}
        if match := re.search(r"entry function '(\w+)'|properties for (\w+)", line):
            function = f"{short(names[match[1] or match[2]])} {arch}"
        if "warning" in line.lower() or re.search(r"\bC75\d\d\b", line):
            faults.append(line.strip())
        if match := re.search(r"(\d+) bytes stack frame, (\d+) .*stores, (\d+) .*loads", line):
            frame, stores, loads = map(int, match.groups())
            if frame or stores or loads:
                faults.append(f"{function}: stack frame {frame}, spills {stores} and {loads} bytes")
        if match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[function] = {
                "registers": int(match[1]),
                "shared_bytes": int(shared[1]) if shared else 0,
            }
    assert all(kernels.values()), "ptxas printed nothing for a kernel: is -Xptxas=-v missing?"
    return Output(kernels, faults)


def short(name):
    """Shorten a function's name to the part that identifies the kernel: name<arguments>."""
    name = re.sub(r"\(anonymous namespace\)::|\b\w+::", "", name)
    depth = 0
    for i, letter in enumerate(name):
        if letter == "(" and depth == 0:
            name = name[:i]
            break
        depth += (letter == "<") - (letter == ">")
    return name.removeprefix("void ").strip()


def demangled(names):
    """Return the full name of each mangled name; their short names must differ."""
    unique = sorted(set(names))
    if not unique:
        return {}
    done = subprocess.run(
        ["c++filt"], input="\n".join(unique), capture_output=True, text=True, check=True
    )
    demangled = dict(zip(unique, done.stdout.splitlines(), strict=True))
    shorter = {short(name) for name in demangled.values()}
    assert len(shorter) == len(unique), "two functions have the same short name"
    return demangled


def of_build(build_cuda):
    """Return the parsed output for every source of the build, by the source's name."""
    return {
        source.stem: read((build_cuda.FOLDER / f"{source.stem}.ptxas").read_text())
        for source in build_cuda.SOURCES
    }


def kernels_of(outputs):
    """Return [registers, bytes of shared memory] of each source's kernels, by architecture."""
    table = {}
    for source, output in outputs.items():
        for function, used in sorted(output.kernels.items()):
            name, arch = function.rsplit(" ", 1)
            archs = table.setdefault(source, {}).setdefault(name, {})
            archs[arch] = [used["registers"], used["shared_bytes"]]
    return table


def main(arguments):
    if arguments != ["--update"]:
        sys.exit("usage: python tests/support/ptxas.py --update")
    build_cuda = load_build_cuda()
    toolkit = build_cuda.plan()
    if toolkit is None:
        sys.exit(1)
    build_cuda.compile_changed(toolkit)
    sources = (
        f"  {json.dumps(source)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows))
        + "\n  }"
        for source, rows in sorted(kernels_of(of_build(build_cuda)).items())
    )
    head = f'{{\n "nvcc": {json.dumps(toolkit.version)},\n "kernels": {{\n'
    TABLE.write_text(head + ",\n".join(sources) + "\n }\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
