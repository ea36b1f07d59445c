"""The runs of the verdict benchmark: their settings, data and seeds.

The calibration part and the test part have no data set and no fault strength in common. Calibration
uses simulated surfaces, sinusoids and autoregressive noise; the test uses chirps, pulses, a replica
of the data in a question on Stack Overflow, and measured sets: watch movements, vowels, exercises
and terrains.

Healthy settings are those of a sensible user: a falling learning rate, clipping, scaled input. A
constant rate is common but does not count as healthy, because the verdict has to find out whether
the rate is too high.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from verdict.runs import Plan

CALIBRATION_DATA = ("surfaces", "sinusoids", "autoregressive")
TEST_DATA = ("chirps", "pulses", "replica", "motions", "vowels", "watch", "borealtc")
CONTROLS = (
    "small_validation",
    "small_batch",
    "dropout",
    "hard_classes",
    "warm_restarts",
    "imbalance",
)
UNBALANCED = {"calibration": ("surfaces", "sinusoids"), "test": ("chirps", "pulses", "watch")}
N_CYCLES = 3

# arguments by setting name; epochs, batch size and width are drawn at random
SETTINGS: dict[str, dict[str, Any]] = {
    "adam 1e-3 cosine": {"learning_rate": 1e-3},
    "adam 3e-3 cosine": {"learning_rate": 3e-3},
    "adam 3e-3 warm-up cosine": {"learning_rate": 3e-3, "warmup_epochs": 5},
    "rmsprop 1e-3 cosine": {"optimizer": "rmsprop", "learning_rate": 1e-3},
    "adamw 2e-3 cosine decay": {
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "weight_decay": 1e-2,
    },
    "adam 2e-3 plateau": {"learning_rate": 2e-3, "lr_schedule": "plateau"},
}
SIZES = {
    "calibration": ((100, 25), (150, 40), (200, 80), (300, 120), (500, 250), (900, 600)),
    "test": ((98, 42), (120, 20), (200, 50), (300, 100), (400, 200), (700, 400), (1000, 1000)),
}


def _injections(base: float, part: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return {name: (changed arguments, changes of the data)} with the strengths of this part."""
    test = part == "test"
    constant = {"lr_schedule": "constant", "warmup_epochs": 0}
    unclipped = constant | {"max_grad_norm": None}
    low, middle, high = (10, 30, 100) if test else (6, 20, 60)
    batches = (2, 1) if test else (3, 4)
    arguments = {
        **{
            f"rate x{n} constant": constant | {"learning_rate": n * base}
            for n in (low, middle, high)
        },
        **{
            f"batch {n} constant": constant | {"batch_size": n, "learning_rate": 3e-3}
            for n in batches
        },
        "rmsprop high, no clip": unclipped
        | {"optimizer": "rmsprop", "learning_rate": 1e-2 if test else 2e-2},
        "sgd momentum high, no clip": unclipped
        | {"optimizer": "sgd", "learning_rate": 1.0 if test else 0.6},
        "bursts, no clip": unclipped
        | {"optimizer": "rmsprop", "learning_rate": 5e-3 if test else 4e-3},
        "raw input": constant | {"learning_rate": 1e-2},
        "normal first weights": constant
        | {"weight_init": "normal", "learning_rate": 1e-2 if test else 2e-2},
        "recurrent gain": constant
        | {"recurrent_init": 2.5 if test else 2.0, "learning_rate": 1e-2},
        "rate near zero": {"learning_rate": 1e-7 if test else 3e-7},
        "shuffled labels": {},
    }
    changes: dict[str, dict[str, Any]] = {
        "bursts, no clip": {"burst_share": 0.02 if test else 0.01},
        "raw input": {"factor": 30.0 if test else 20.0, "offset": 100.0 if test else 40.0},
        "shuffled labels": {"shuffled": True},
    }
    return {kind: (of, changes.get(kind, {})) for kind, of in arguments.items()}


N_INJECTIONS = len(_injections(1e-3, "test"))


def _epochs(n_train: int) -> int:
    """Return a number of epochs that suffices for a small set and keeps the run short."""
    return 80 if n_train <= 150 else 60 if n_train <= 400 else 40


def _drawn(part: str, index: int, data: str) -> tuple[str, int, int, dict[str, Any]]:
    """Return the setting, sizes and arguments of the index-th run of a part."""
    rng = np.random.default_rng([index, sum(part.encode()), 7])
    setting = list(SETTINGS)[int(rng.integers(len(SETTINGS)))]
    n_train, n_val = SIZES[part][int(rng.integers(len(SIZES[part])))]
    if data == "replica":
        n_train, n_val = 98, 42
    if data == "motions":
        n_train, n_val = 48, 20
    arguments = {
        "hidden_size": int(rng.choice([16, 24, 32, 48])),
        "batch_size": int(rng.choice([16, 32, 64] if n_train > 150 else [16, 32])),
        "max_epochs": _epochs(n_train),
        **SETTINGS[setting],
    }
    return setting, n_train, n_val, arguments


def make_plans(part: str, *, quick: bool = False) -> list[Plan]:
    """Return every run of a part, in order; twins precede the runs that are compared with them.

    Parameters
    ----------
    part : str
        ``"calibration"`` or ``"test"``.
    quick : bool, default=False
        Return only a few runs of each role, as a smoke test.
    """
    plans = list(_make(part))
    if not quick:
        return plans
    kept = [plan for plan in plans if plan.n_train <= 200]
    healthy = [plan for plan in kept if plan.role == "healthy" and plan.data in _generated(part)]
    twins = {plan.name for plan in healthy[:8]}
    return [
        *healthy[:8],
        *[plan for plan in kept if plan.role == "control" and plan.data in _generated(part)][:8],
        *[plan for plan in kept if plan.twin in twins][:8],
    ]


def _generated(part: str) -> tuple[str, ...]:
    return ("sinusoids", "autoregressive") if part == "calibration" else ("chirps", "pulses")


def _make(part: str) -> Iterator[Plan]:
    sets = CALIBRATION_DATA if part == "calibration" else TEST_DATA
    n_each = {"calibration": 36, "test": 30}[part]  # healthy runs per set
    n_with_injections = {"calibration": 18, "test": 7}[part]
    seed = 1000 if part == "calibration" else 15000
    injection = 0
    for repeat in range(n_each):
        for data in sets:
            seed += 1
            setting, n_train, n_val, arguments = _drawn(part, seed, data)
            name = f"{part}-{seed}-{data}"
            common = {"part": part, "data": data, "seed": seed, "n_train": n_train, "n_val": n_val}
            yield Plan(
                name=name, role="healthy", kind=setting, arguments=arguments, change={}, **common
            )
            if repeat >= n_with_injections or data == "motions":  # too few fresh windows
                continue
            kinds = _injections(float(arguments["learning_rate"]), part)
            for _ in range(4):
                kind = list(kinds)[injection % len(kinds)]
                injection += 1
                changed, change = kinds[kind]
                yield Plan(
                    name=f"{name}-{kind.replace(' ', '_').replace(',', '')}",
                    role="volatile",
                    kind=kind,
                    arguments={**arguments, **changed},
                    change=change,
                    twin=name,
                    **common,
                )
        if part == "test" and repeat < n_with_injections:
            yield from _as_asked(seed, sets)
    yield from _controls(part, sets)


def _as_asked(seed: int, sets: tuple[str, ...]) -> Iterator[Plan]:
    """Yield the run with the settings in the Stack Overflow question; its twin is healthy."""
    seed_of_replica = seed - len(sets) + 1 + sets.index("replica")
    yield Plan(
        name=f"test-{seed_of_replica}-replica-as_asked",
        part="test",
        role="volatile",
        kind="as asked",
        data="replica",
        seed=seed_of_replica,
        n_train=98,
        n_val=42,
        arguments={
            "hidden_size": 96,
            "batch_size": 32,
            "max_epochs": 80,
            "optimizer": "rmsprop",
            "learning_rate": 1e-3,
            "lr_schedule": "constant",
            "max_grad_norm": None,
            "optimizer_params": {"alpha": 0.9},
        },
        change={},
        twin=f"test-{seed_of_replica}-replica",
    )


def _controls(part: str, sets: tuple[str, ...]) -> Iterator[Plan]:
    n_each = {"calibration": 24, "test": 26}[part]  # runs per kind
    seed = 3000 if part == "calibration" else 18000
    for repeat in range(n_each):
        for kind in CONTROLS:
            seed += 1
            served = UNBALANCED[part] if kind == "imbalance" else sets
            data = served[repeat % len(served)]
            _, n_train, n_val, arguments = _drawn(part, seed, data)
            change: dict[str, Any] = {}
            if kind == "small_validation":
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
            yield Plan(
                name=f"{part}-{seed}-{data}-{kind}",
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
