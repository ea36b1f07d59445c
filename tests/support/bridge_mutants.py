"""Faults that the bridge test must detect, and the commands that compile it."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "cuda"
EMULATOR = ROOT / "tests" / "native" / "cuda"
MACHINE = ROOT / "csrc" / "cuda"
INCLUDES = (ROOT / "csrc", ROOT / "tests" / "native", EMULATOR, PROGRAM)
NVCC = ["nvcc", "-std=c++17", "-O3", "-gencode=arch=compute_90a,code=sm_90a"]
NVCC += ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Xptxas", "-Werror"]
SOURCES = (PROGRAM / "bridge.cu", PROGRAM / "bridge_host.cpp", EMULATOR / "emulator.cpp")


class BridgeMutant(NamedTuple):
    """A string in a file, its replacement, and the row that the replacement must make wrong."""

    row: str
    file: str
    old: str
    new: str


# Faults in the emulator that replaces the GPU. The faults of a group are planted together, because
# no two of them affect the same row.
FAULTS = [
    (
        "emulator.h",
        [
            ("min.NaN", "Choose(x <= y, x, Choose(x != x, x, y))", "Choose(x > y, y, x)"),
            ("shfl.bfly", "x[l ^ distance]", "x[(l + distance) & 31]"),
            ("scale", "std::ldexp(1.0f, e)", "std::ldexp(1.0f, e + 1)"),
            ("rcp", "return 1.0f / x;", "return (1.0f / x) * (1.0f + 5e-7f);"),
            ("high half", "LowHalf(x >> 16)", "LowHalf(x)"),
            ("stmatrix.x4", "* 128, x[i]);", "* 128, x[i ^ 1]);"),
            ("sums over lanes", "x[l] += x[l + distance]", "x[l] = float(x[l] + x[l + distance])"),
            ("atomic max", "std::max(base[at], AsUnsigned(x)[0])", "AsUnsigned(x)[0]"),
            (
                "st.shared.v2",
                "U word[2] = {AsUnsigned(x), AsUnsigned(y)};",
                "U word[2] = {AsUnsigned(y), AsUnsigned(x)};",
            ),
        ],
    ),
    (
        "emulator.cpp",
        [
            ("fma", "std::fma(a[l], b[l], c[l])", "a[l] * b[l] + c[l]"),
            ("ex2", "std::exp2(v)", "std::exp2(v) * (1.0f + 1e-6f)"),
            ("tanh", "nearbyint(fraction * 2048) / 2048", "nearbyint(fraction * 512) / 512"),
            ("shfl.idx", "x[from[l] & 31]", "x[(from[l] + 1) & 31]"),
            ("redux", "std::max(most, x[l])", "std::min(most, x[l])"),
            (
                "mma.m16n8k16",
                "Value(b0);\n      columns[2 * q + 8 + half][g] = Value(b1);",
                "Value(b1);\n      columns[2 * q + 8 + half][g] = Value(b0);",
            ),
            ("stmatrix.x1", "const U words = TransposeMatrix(x);", "const U words = x;"),
            ("ldmatrix", "w * 128 + l * 4", "w * 4 + l * 16"),
            (
                "global load of 4 words, some",
                "if (!on[l]) continue;\n    const uint32_t*",
                "const uint32_t*",
            ),
            ("global store of 2 floats", "base + at[l], x[l], l);", "base + at[l], y[l], l);"),
            (
                "another CTA wrote",
                "if (on[l]) r[l] = ReadGlobal(base + at[l], l, true);",
                "r[l] = ReadGlobal(base + at[l], l, true);",
            ),
            ("64-bit", "if (on[l]) r[l] = base[at[l]];", "if (on[l]) r[l] = (int)base[at[l]];"),
            ("cp.async of 16 bytes", "valid[l] ? base + at[l] + w : nullptr", "base + at[l] + w"),
            ("st.async.v2.b32", "{AsUnsigned(x), AsUnsigned(y)}", "{AsUnsigned(y), AsUnsigned(x)}"),
            (
                "last of CTAs",
                "arrived[at] = 0;\n      Join(clock_, counter);",
                "Join(clock_, counter);",
            ),
        ],
    ),
    (
        "emulator.cpp",
        [
            (
                "cvt.rn.f16x2",
                "HalfOfFloat(low[l]) | (uint32_t{HalfOfFloat(high[l])} << 16)",
                "HalfOfFloat(high[l]) | (uint32_t{HalfOfFloat(low[l])} << 16)",
            ),
            ("redux", "std::max(most, x[l])", "std::max<uint32_t>(most, x[l])"),
            (
                "movmatrix",
                "r[l] = Half(column, row) | (Half(column + 1, row) << 16);",
                "r[l] = x[l];",
            ),
            (
                "st.shared.v4 of some",
                "if (!on[l]) continue;\n    if (at[l] % static_cast",
                "if (at[l] % static_cast",
            ),
            ("st.async.b32", "cluster_.Send({to,", "cluster_.Send({rank_,"),
            ("last of CTAs", "++arrived[at] == n_ctas", "arrived[at]++ == 0"),
            (
                "global store of 4 floats",
                "if (!on[l]) continue;\n    Aligned(base + at[l], 16);\n    for",
                "for",
            ),
        ],
    ),
    ("emulator.cpp", [("mma.m16n8k16", "= Value(a[1]);", "= Value(a[2]);")]),
    (
        "emulator.cpp",
        [("mma.m16n8k16", "sums[l / 4 + 8 * (i / 2)][", "sums[l / 4 + 8 * (i % 2)][")],
    ),
    # as large as rounding the sums to twelve bits would cause
    (
        "emulator.cpp",
        [
            (
                "mma.m16n8k16",
                "static_cast<double>(d[i][l]));",
                "static_cast<double>(d[i][l])) * (1 + 0x1p-12f);",
            )
        ],
    ),
    (
        "emulator.cpp",
        [
            (
                "mma.m16n8k16 of denormal",
                "static_cast<double>(HalfValue(",
                "static_cast<double>((word[l] >> 16 * half & 0x7c00) == 0 ? 0.0f : HalfValue(",
            )
        ],
    ),
]
OF_EMULATOR = [
    [BridgeMutant(row, file, old, new) for row, old, new in changes] for file, changes in FAULTS
]


def plant(mutants, source, folder):
    """Copy the C++ files of the folder `source`, and plant faults in the copy."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("test_*", "*.cu"))
    for mutant in mutants:
        changed = folder / mutant.file
        text = changed.read_text()
        assert mutant.old in text, f"{mutant.file} has no {mutant.old!r}"
        changed.write_text(text.replace(mutant.old, mutant.new, 1))


def compile_bridge(target, *flags, sources=SOURCES):
    """Compile the bridge for a GPU."""
    command = [*NVCC, *flags, *(f"-I{folder}" for folder in INCLUDES), "-o", target, *sources]
    subprocess.run(command, check=True)
