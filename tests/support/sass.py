"""Reads the machine code of the portable recurrent kernels, and updates the table of steps.

`python tests/support/sass.py --update` rewrites the table; review its changes.
"""

import collections
import dataclasses
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ptxas

TABLE = ptxas.ROOT / "tests" / "cuda" / "steps.json"
CLASSES = {
    "FFMA": ("FFMA",),
    "shared": ("LDS", "STS"),
    "global": ("LDG", "STG"),
    "SHFL": ("SHFL",),
    "MUFU": ("MUFU",),
    "BAR": ("BAR",),
}
MISSING = "no cuobjdump; requirements/core.txt lists it"
COLUMNS = (*CLASSES, "other", "whole loop")
MOST_CYCLES = 40  # from the barrier until the first load of h, or of gate gradients, is issued

_INSTRUCTION = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(@\S+ )?\s*(\w+)(.*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/\n"
    r"\s+/\* 0x([0-9a-f]{16}) \*/$",
    re.MULTILINE,
)


@dataclasses.dataclass(slots=True)
class Instruction:
    """An instruction, with the scheduling that the compiler wrote into it.

    The instruction waits until the scoreboards in `waits_for` are free, occupies the scoreboard
    `holds` until its result is there (7: none), and delays the next instruction by `cycles`.
    """

    at: int
    is_conditional: bool
    name: str  # without suffixes
    rest: str
    cycles: int
    holds: int
    waits_for: frozenset[int]


class Kernel:
    """A kernel's instructions, and the loop with a barrier, each turn of which is one time step."""

    def __init__(self, code):
        self.code = code
        self.after = _followers(code)
        before = [[] for _ in code]
        for n, followers in enumerate(self.after):
            for follower in followers:
                before[follower].append(n)
        loops = {
            n: _reached(self.after, n) & _reached(before, n)
            for n, one in enumerate(code)
            if one.name == "BAR"
        }
        self.barriers = [n for n, loop in loops.items() if n in loop]
        self.loop = loops[self.barriers[0]]
        self.entries = {n for n in self.loop if not self.loop.issuperset(before[n])}

    def step(self):
        """Return the shortest way through the loop, beginning with the barrier, as numbers."""
        barrier = self.barriers[0]
        before, todo = {}, collections.deque([barrier])
        while barrier not in before:
            n = todo.popleft()
            for follower in self.after[n]:
                if follower in self.loop and follower not in before:
                    before[follower] = n
                    todo.append(follower)
        path = [before[barrier]]
        while path[-1] != barrier:
            path.append(before[path[-1]])
        return path[::-1]

    def counts(self):
        """Return the number of instructions of a step by class, and of the whole loop."""
        names = [self.code[n].name for n in self.step()]
        of_classes = [sum(name in some for name in names) for some in CLASSES.values()]
        return [*of_classes, len(names) - sum(of_classes), len(self.loop)]

    def spills(self):
        """Return the number of accesses to local memory, in the loop and elsewhere."""
        return sum(one.name in ("LDL", "STL") for one in self.code)

    def faults(self, *, is_backward):
        """Return what makes a step slower than it is designed to be."""
        if len(self.barriers) != 1:
            return [f"{len(self.barriers)} barriers in a step"]
        step = [self.code[n] for n in self.step()]
        found = []
        n_before = next(n for n, one in enumerate(step) if one.name == "LDS")
        cycles = sum(max(1, one.cycles) for one in step[:n_before])
        if cycles > MOST_CYCLES:
            found.append(f"the first load is issued {cycles} cycles after the barrier")
        for n in sorted(self.loop):
            if self.code[n].name == "LDG" and self._is_awaited(n):
                found.append(f"the step waits for its own load at {self.code[n].at:#x}")
        if is_backward and any(self.code[n].name == "MUFU" for n in self.loop):
            found.append("the step computes an activation")
        return found

    def _is_awaited(self, load):
        """Whether every way from a load to the end of the loop's turn waits for the load."""
        todo, seen = [*self.after[load]], {load}
        while todo:
            n = todo.pop()
            if n in self.entries:
                return False
            if n not in seen and self.code[load].holds not in self.code[n].waits_for:
                seen.add(n)
                todo += self.after[n]
        return True


def _followers(code):
    index = {one.at: n for n, one in enumerate(code)}
    followers = []
    for n, one in enumerate(code):
        jumps = one.name in ("BRA", "EXIT", "RET")
        # BRA.DIV, and BRA with a second predicate
        is_conditional = one.is_conditional or re.match(r"\S*DIV|\S* !?U?P\d", one.rest)
        of_one = [n + 1] if n + 1 < len(code) and (is_conditional or not jumps) else []
        if one.name == "BRA":
            of_one.append(index[int(one.rest.split()[-1], 16)])
        followers.append(of_one)
    return followers


def _reached(followers, start):
    seen, todo = set(), [*followers[start]]
    while todo:
        n = todo.pop()
        if n not in seen:
            seen.add(n)
            todo += followers[n]
    return frozenset(seen)


def read(text):
    """Return each kernel in the output of cuobjdump -sass, by its short name."""
    listed = {}
    for part in text.split("\t\tFunction : ")[1:]:
        name, _, body = part.partition("\n")
        listed[name] = Kernel([_instruction(*match) for match in _INSTRUCTION.findall(body)])
    names = ptxas.demangled(listed)
    return {ptxas.short(names[name]): kernel for name, kernel in listed.items()}


_WAITS_FOR = [frozenset(n for n in range(6) if bits >> n & 1) for bits in range(64)]


def _instruction(at, predicate, name, rest, word):
    control = int(word, 16) >> 41
    waits_for = _WAITS_FOR[control >> 11 & 63]
    return Instruction(
        int(at, 16), bool(predicate), name, rest, control & 15, control >> 5 & 7, waits_for
    )


def find_cuobjdump(environ=os.environ):
    """Return cuobjdump of the pinned package, and the environment in which it finds nvdisasm.

    Return None if the package is not installed.
    """
    for folder in map(Path, sys.path):
        program = folder / "nvidia" / "cu13" / "bin" / "cuobjdump"
        if program.exists():
            path = f"{program.parent}{os.pathsep}{environ.get('PATH', '')}"
            return program, {**environ, "PATH": path}
    return None


def of_build(build_cuda, cuobjdump):
    """Return the portable kernels of the build, by name and architecture."""
    program, environ = cuobjdump
    codes = [code for code in build_cuda.PORTABLE if code.startswith("sm_")]

    def disassemble(code):
        command = [program, "-sass", "-arch", code, build_cuda.FOLDER / "portable.o"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environ
        ).stdout

    with ThreadPoolExecutor(2) as pool:
        return {
            f"{name} {code}": kernel
            for code, text in zip(codes, pool.map(disassemble, codes), strict=True)
            for name, kernel in read(text).items()
        }


def main(arguments):
    if arguments != ["--update"]:
        sys.exit("usage: python tests/support/sass.py --update")
    kernels = of_build(ptxas.load_build_cuda(), find_cuobjdump())
    rows = ",\n".join(f" {json.dumps(name)}: {kernels[name].counts()}" for name in sorted(kernels))
    columns = json.dumps(COLUMNS)
    TABLE.write_text(f'{{\n"columns": {columns},\n"steps": {{\n{rows}\n}}\n}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
