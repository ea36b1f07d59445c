"""The runs of the fluctuation benchmark: healthy ones, and what is made of them, cause by cause.

Calibration and test share neither a data set nor a strength of injection. A healthy run and what is
made of it have the data, the split, the first weights' seed and every other argument in common.
Windows are given as they are and scaled by the estimator, so that a repair can be an argument.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fluctuation.injections import HOT, INJECTIONS, MIXTURES, Injection
from verdict.plan import SETTINGS, SIZES, UNBALANCED, Plan

CALIBRATION_DATA = ("surfaces", "sinusoids", "autoregressive")
TEST_DATA = ("chirps", "pulses", "replica", "borealtc", "motions", "vowels", "watch")
# Sets that a package may bring are a fifth of the test, so that it is not small without them.
GROUP_DATA = {
    "calibration": CALIBRATION_DATA,
    "test": (*TEST_DATA[:4], *TEST_DATA[:4], "vowels", "watch"),
}
CONTROL_DATA = {"calibration": CALIBRATION_DATA, "test": (*TEST_DATA[:4], *TEST_DATA)}
N_GROUPS = {
    "calibration": {"plain": 33, "constant": 21, "few": 18, "bursts": 9},
    "test": {"plain": 30, "constant": 20, "few": 15, "bursts": 8},
}
N_EACH = {"calibration": 20, "test": 12}  # runs of each cause at its own base
# Of causes that are also injected into a rate that does not fall: at their own base, and there.
N_MOVED = {"calibration": (20, 6), "test": (7, 7)}
N_HOT = {"calibration": 8, "test": 6}  # more of each of two causes, see `HOT`
N_MIXTURES = {"calibration": 5, "test": 6}  # runs of each mixture
N_CONTROLS = {"calibration": 5, "test": 5}  # runs of each kind of control
N_DRAWS = {"calibration": 2, "test": 1}  # of all of the above, from other seeds
SEEDS_OF_A_DRAW = 100_000
N_REPEATS = 3  # seeds of each pair in the test, the first of them judged
N_CYCLES = 3
N_SAME_CONFIGURATION = 8  # of each of two causes, in the test
# With the last hidden state alone many healthy runs learn too little to be held against.
POOLING_SHARES = {"calibration": (0.7, 0.15, 0.15), "test": (0.8, 0.15, 0.05)}
BURST_SHARES = {"calibration": (0.005, 0.01, 0.015), "test": (0.008, 0.012, 0.02)}

# They have kinds of their own there, or do not depend on the rate.
NOT_MOVED = ("learning_rate", "small_validation_set", "distribution_shift")

Arguments = dict[str, Any]
BASES: dict[str, dict[str, Arguments]] = {
    "plain": SETTINGS,
    "constant": {
        "adam 7e-4 constant": {"learning_rate": 7e-4, "lr_schedule": "constant"},
        "adam 1e-3 constant": {"learning_rate": 1e-3, "lr_schedule": "constant"},
        "rmsprop 4e-4 constant": {
            "optimizer": "rmsprop",
            "learning_rate": 4e-4,
            "lr_schedule": "constant",
        },
    },
    "few": {
        "adamw 2e-3 cosine, dropout": {
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "weight_decay": 1e-2,
            "dropout": 0.3,
            "input_dropout": 0.1,
        },
        "adam 3e-3 cosine, dropout": {"learning_rate": 3e-3, "dropout": 0.4, "input_dropout": 0.1},
    },
    "bursts": {
        "sgd 0.2 cosine": {"optimizer": "sgd", "learning_rate": 0.2},
        "rmsprop 3e-3 cosine": {"optimizer": "rmsprop", "learning_rate": 3e-3},
        "adam 3e-3 cosine": {"learning_rate": 3e-3},
    },
}
# An argument that looks wrong and is not: what it would do harm with is not there.
UNUSUAL: dict[str, tuple[Arguments, dict[str, Any]]] = {
    "no clipping, no bursts": ({"max_grad_norm": None}, {}),
    "unscaled, but of unit size": ({"scale": None}, {"standardised": True}),
    "raw units, scaled": ({}, {"units": {"factor": 50.0, "offset": 70.0}}),
    "small batch, low rate": ({"batch_size": 4, "learning_rate": 5e-4, "optimizer": "adam"}, {}),
    "momentum 0.99, low rate": (
        {"optimizer": "sgd", "momentum": 0.99, "learning_rate": 5e-3, "optimizer_params": None},
        {},
    ),
    "wide, enough windows": ({"hidden_size": 96}, {}),
    "uniform first weights": ({"weight_init": "uniform", "recurrent_init": "uniform"}, {}),
}
CONTROLS = (
    "small_validation",
    "small_batch",
    "dropout",
    "hard_classes",
    "warm_restarts",
    "imbalance",
    *UNUSUAL,
)


@dataclass(frozen=True)
class FaultPlan(Plan):
    """One run to make.

    Parameters
    ----------
    cause : str
        What is injected, of `CAUSE_NAMES`; two with a plus between in a mixture; empty in a healthy
        run and a control.
    strength : int
        From 1, mild, to 4, strong; 0 without an injection.
    repeat : int
        Counts seeds of first weights and order on the same data; 0 is the run that is judged.
    """

    cause: str = ""
    strength: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class _Group:
    """A healthy run, and what it is made with."""

    base: str
    healthy: FaultPlan


def causes_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is injected in a run, given the fields of its plan."""
    return tuple(plan["cause"].split("+")) if plan["cause"] else ()


def _epochs(n_train: int) -> int:
    return 80 if n_train <= 150 else 60 if n_train <= 400 else 40


def _drawn(part: str, base: str, seed: int, data: str) -> tuple[str, int, int, Arguments]:
    """Return setting, sizes and arguments of the healthy run with that seed."""
    rng = np.random.default_rng([seed, sum(part.encode()), 11])
    setting = list(BASES[base])[int(rng.integers(len(BASES[base])))]
    sizes = [size for size in SIZES[part] if size[0] <= (1000 if base == "plain" else 350)]
    n_train, n_val = sizes[int(rng.integers(len(sizes)))]
    n_few = int(rng.integers(40, 81))
    if data == "replica":
        n_train, n_val = 98, 42
    if data == "motions":
        n_train, n_val = 48, 20
    if base == "few":
        n_train, n_val = n_few, max(n_val, 40)
    arguments = {
        "hidden_size": int(rng.choice([16, 24, 32, 48] if base != "few" else [16, 20, 24])),
        "batch_size": int(rng.choice([16, 32, 64] if n_train > 150 else [16, 32])),
        "max_epochs": _epochs(n_train),
        "scale": "standard",
        "pooling": str(rng.choice(["meanmax", "mean", "last"], p=POOLING_SHARES[part])),
        **BASES[base][setting],
    }
    return setting, n_train, n_val, arguments


def _groups(part: str, draw: int) -> Iterator[_Group]:
    seed = (41000 if part == "calibration" else 61000) + SEEDS_OF_A_DRAW * draw
    for base, n in N_GROUPS[part].items():
        for index in range(n):
            seed += 1
            data = GROUP_DATA[part][index % len(GROUP_DATA[part])]
            setting, n_train, n_val, arguments = _drawn(part, base, seed, data)
            change: dict[str, Any] = {}
            if base == "bursts":
                change = {"burst_share": BURST_SHARES[part][index % 3]}
            if base == "few" and index % 2:
                change = {"hard": True}
            yield _Group(
                base,
                FaultPlan(
                    name=f"{part}-{seed}-{data}",
                    part=part,
                    role="healthy",
                    kind=setting,
                    data=data,
                    seed=seed,
                    n_train=n_train,
                    n_val=n_val,
                    arguments=arguments,
                    change=change,
                ),
            )


def _inject(healthy: FaultPlan, injection: Injection, strength: int) -> FaultPlan:
    values = injection.calibration if healthy.part == "calibration" else injection.test
    changed, change = injection.make(healthy.arguments, values[strength - 1])
    kind = injection.kind.replace(" ", "_").replace(",", "")
    return FaultPlan(
        name=f"{healthy.name}-{kind}-{strength}",
        part=healthy.part,
        role="volatile",
        kind=injection.kind,
        data=healthy.data,
        seed=healthy.seed,
        n_train=healthy.n_train,
        n_val=healthy.n_val,
        arguments={**healthy.arguments, **changed},
        change={**healthy.change, **change},
        twin=healthy.name,
        cause=injection.cause,
        strength=strength,
    )


def _injected(part: str, groups: list[_Group]) -> Iterator[FaultPlan]:
    """Return so many runs of each cause, by turns of its kinds and strengths, over the groups."""
    by_cause: dict[str, list[Injection]] = {}
    taken: set[str] = set()
    for injection in (*INJECTIONS, *MIXTURES):
        by_cause.setdefault(injection.cause, []).append(injection)
    for number, (cause, kinds) in enumerate(by_cause.items()):
        moved = [
            replace(injection, base="constant")
            for injection in kinds
            if injection.base == "plain" and cause not in NOT_MOVED and "+" not in cause
        ]
        n = N_MIXTURES[part] if "+" in cause else N_MOVED[part][0] if moved else N_EACH[part]
        yield from _spread(groups, kinds, n, 5 * number, taken)
        if moved:
            yield from _spread(groups, moved, N_MOVED[part][1], 5 * number + 2, taken)

    for number, injection in enumerate(HOT):
        yield from _spread(groups, [injection], N_HOT[part], 4 * number, taken)


def _serves(group: _Group, base: str) -> bool:
    if base == "short":
        return group.base == "plain" and group.healthy.n_train <= 200
    return group.base == base


def _spread(
    groups: list[_Group], kinds: list[Injection], n: int, first: int, taken: set[str]
) -> Iterator[FaultPlan]:
    """Return n runs by turns of kinds and strengths, each kind going through its own groups."""
    for index in range(n):
        injection = kinds[index % len(kinds)]
        turn = index // len(kinds)
        own = [group for group in groups if _serves(group, injection.base)]
        step = 7 if len(own) % 7 else 11
        place = first + step * turn + 3 * (index % len(kinds))
        strength = 1 + (turn + index % len(kinds)) % 4
        for shift in range(len(own)):
            plan = _inject(own[(place + shift) % len(own)].healthy, injection, strength)
            if plan.name not in taken:
                break
        taken.add(plan.name)
        yield plan


def _controls(part: str, draw: int) -> Iterator[FaultPlan]:
    seed = (51000 if part == "calibration" else 71000) + SEEDS_OF_A_DRAW * draw
    for repeat in range(N_CONTROLS[part]):
        for number, kind in enumerate(CONTROLS):
            seed += 1
            served = UNBALANCED[part] if kind == "imbalance" else CONTROL_DATA[part]
            data = served[(repeat + number) % len(served)]
            _, n_train, n_val, arguments = _drawn(part, "plain", seed, data)
            change: dict[str, Any] = {}
            if kind in UNUSUAL:
                changed, change = UNUSUAL[kind]
                arguments |= changed
            elif kind == "small_validation":
                n_val = 10 + seed % 11
            elif kind == "small_batch":
                arguments |= {"batch_size": 4 if repeat % 2 else 8, "learning_rate": 1e-3}
            elif kind == "dropout":
                arguments |= {"dropout": 0.5, "recurrent_dropout": 0.5 if repeat % 2 else 0.0}
            elif kind == "hard_classes":
                change = {"hard": True}
            elif kind == "warm_restarts":
                change = {"n_cycles": N_CYCLES}
                arguments |= {"lr_schedule": "cosine", "max_epochs": 20}
            else:
                change = {"imbalance": 10}
                n_train = max(n_train, 300)
                arguments |= {"class_weight": "balanced"} if repeat % 2 else {}
            yield FaultPlan(
                name=f"{part}-{seed}-{data}-{kind.replace(' ', '_').replace(',', '')}",
                part=part,
                role="control",
                kind=kind,
                data=data,
                seed=seed,
                n_train=n_train,
                n_val=n_val,
                arguments=arguments,
                change=change,
            )


def _same_configuration(plans: list[FaultPlan]) -> list[FaultPlan]:
    """Return healthy runs of the very arguments of sick ones, on data that bear with them.

    Not scaled where the data are of unit size, not clipped where there are no bursts. For what is
    wrong with the labels or lengths alone, the twin is such a run already.
    """
    found = []
    for cause, change in (
        ("preprocessing", {"standardised": True}),
        ("gradient_clipping", {}),
    ):
        sick = [plan for plan in plans if plan.cause == cause][:N_SAME_CONFIGURATION]
        found += [
            replace(
                plan,
                name=f"{plan.name}-on_good_data",
                role="control",
                kind=f"arguments of a sick run: {cause}",
                change=change,
                twin="",
                cause="",
                strength=0,
            )
            for plan in sick
        ]
    return found


def make_plans(part: str, *, quick: bool = False) -> list[FaultPlan]:
    """Return every run of a part that is judged; a healthy run before what is made of it.

    Parameters
    ----------
    part : str
        ``"calibration"`` or ``"test"``.
    quick : bool, default=False
        A few of each role on generated sets.
    """
    plans = []
    for draw in range(N_DRAWS[part]):
        groups = list(_groups(part, draw))
        made: dict[str, list[FaultPlan]] = {}
        for plan in _injected(part, groups):
            made.setdefault(plan.twin, []).append(plan)
        for group in groups:
            plans += [group.healthy, *made.get(group.healthy.name, [])]
        plans += _controls(part, draw)
    if part == "test":
        plans += _same_configuration(plans)
    return _quick(plans, part) if quick else plans


def shard_of(plans: list[FaultPlan], index: int, count: int) -> list[FaultPlan]:
    """Return the index-th of count lots, counted from 1; runs on the same draw are in one lot."""
    order = {
        draw: place for place, draw in enumerate(dict.fromkeys((p.data, p.seed) for p in plans))
    }
    return [plan for plan in plans if order[plan.data, plan.seed] % count == index - 1]


def _quick(plans: list[FaultPlan], part: str) -> list[FaultPlan]:
    """Return a run of each cause that has a short one, their twins, and some controls."""
    served = ("sinusoids", "autoregressive") if part == "calibration" else ("chirps", "pulses")
    short = [p for p in plans if p.data in served and p.n_train <= 200 and _is_short(p)]
    chosen: dict[str, FaultPlan] = {}
    for plan in short:
        if plan.role == "volatile" and plan.strength >= 2:
            chosen.setdefault(plan.cause, plan)
    controls = [plan for plan in short if plan.role == "control"][:6]
    twins = {plan.twin for plan in chosen.values()}
    names = {plan.name for plan in (*chosen.values(), *controls)} | twins
    return [plan for plan in plans if plan.name in names]


def _is_short(plan: FaultPlan) -> bool:
    return plan.arguments["max_epochs"] <= 300 and plan.arguments["hidden_size"] <= 100
