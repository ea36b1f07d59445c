"""Weigh the features of the causes on saved runs whose cause is known.

    python benchmarks/fluctuation/calibrate.py FOLDER [--write]

Every run of FOLDER is judged again. One whose fault came true against its healthy twin has the
cause that was injected; all others, healthy ones and controls among them, have none. One logistic
model over the sides of all causes is fitted to that, with the signs of
`sensorseq.fluctuation.causes.theory` and a prior that pulls the weights to those of theory. How
sure it may be of itself is learned from runs of data sets that were left out.
"""

import argparse
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fluctuation.answers import is_equivalent
from fluctuation.cases import SIDES, Case, read_cases
from fluctuation.weights_fit import (
    Floats,
    Model,
    cause_shares,
    fit,
    fit_calibration,
    fit_scales,
    out_of_data,
)

from sensorseq.fluctuation.causes import theory, weights
from sensorseq.fluctuation.causes.cause import HIDDEN, IDENTIFIED


def describe(cases: Sequence[Case], shares: Floats, knots: Any) -> str:
    """Say how often the first and the first two causes are right, and how sure they were."""
    names, of = cause_shares(shares)
    order = np.argsort(-of, axis=1)
    x, y = np.array(knots).T
    told = np.interp(of, x, y)
    told = told / np.maximum(told.sum(axis=1, keepdims=True), 1)
    lines = []
    for title, lot in (
        (
            "came true and judged abnormal",
            [i for i, c in enumerate(cases) if c.causes and c.is_judged],
        ),
        ("came true", [i for i, c in enumerate(cases) if c.causes]),
    ):
        if not lot:
            continue
        first = np.mean([names[order[i, 0]] in cases[i].causes for i in lot])
        two = np.mean([bool({names[j] for j in order[i, :2]} & set(cases[i].causes)) for i in lot])
        sure = [i for i in lot if told[i].max() >= IDENTIFIED]
        right = np.mean([names[order[i, 0]] in cases[i].causes for i in sure]) if sure else math.nan
        alike = np.mean([is_equivalent(names[order[i, 0]], cases[i].causes) for i in lot])
        lines.append(
            f"{title}: {len(lot)} runs, first right {first:.1%} (or its repair as good"
            f" {alike:.1%}), one of two {two:.1%};"
            f" named {len(sure) / len(lot):.0%}, of those right {right:.1%}"
        )
    judged = [i for i, c in enumerate(cases) if c.is_judged]
    top = np.array([told[i].max() for i in judged])
    hit = np.array([names[order[i, 0]] in cases[i].causes for i in judged])
    error = 0.0
    for low in np.arange(0, 1, 0.2):
        inside = (top >= low) & (top < low + 0.2 + 1e-9)
        if inside.any():
            error += inside.mean() * abs(top[inside].mean() - hit[inside].mean())
            lines.append(
                f"  confidence {low:.1f}-{low + 0.2:.1f}: {inside.sum():3d} runs,"
                f" mean {top[inside].mean():.2f}, right {hit[inside].mean():.2f}"
            )
    lines.append(f"  expected calibration error {error:.3f}")
    by_kind: dict[str, list[tuple[bool, str]]] = {}
    for i, case in enumerate(cases):
        if case.causes:
            answer = names[order[i, 0]]
            key = f"{'+'.join(case.causes)}: {case.kind}"
            by_kind.setdefault(key, []).append((case.is_judged, answer))
    for key, answers in sorted(by_kind.items()):
        n_judged = sum(judged for judged, _ in answers)
        counted: dict[str, int] = {}
        for _, answer in answers:
            counted[answer] = counted.get(answer, 0) + 1
        listed = ", ".join(f"{k} {v}" for k, v in sorted(counted.items(), key=lambda kv: -kv[1]))
        lines.append(f"  {key} ({len(answers)}, {n_judged} judged): {listed}")
    return "\n".join(lines)


def describe_calm(cases: Sequence[Case], shares: Floats, knots: Any) -> str:
    """Say how often a cause is named on a calm run, and is one."""
    names, of = cause_shares(shares)
    hidden = [place for place, name in enumerate(names) if name in HIDDEN]
    calm = [i for i, case in enumerate(cases) if not case.is_judged]
    x, y = np.array(knots).T
    best = {i: hidden[int(of[i, hidden].argmax())] for i in calm}
    named = [i for i in calm if np.interp(of[i, best[i]], x, y) >= IDENTIFIED]
    right = sum(names[best[i]] in cases[i].causes for i in named)
    wrong: dict[str, int] = {}
    for i in named:
        if names[best[i]] not in cases[i].causes:
            key = f"{names[best[i]]} ({cases[i].kind})"
            wrong[key] = wrong.get(key, 0) + 1
    n_hidden = sum(bool(set(cases[i].causes) & HIDDEN) for i in calm)
    listed = ", ".join(f"{k} {v}" for k, v in sorted(wrong.items(), key=lambda kv: -kv[1]))
    return (
        f"calm: {len(calm)} runs, {n_hidden} with a hidden cause; named {len(named)},"
        f" right {right}; wrong: {listed}"
    )


def write_weights(
    path: Path, scales: Any, model: Model, knots: Any, calm_knots: Any, note: str
) -> None:
    """Write `weights.py` as plain literals."""
    text = [
        '"""Weights of the causes; written by benchmarks/fluctuation/calibrate.py, not by hand.\n',
        f'{note}\n"""\n',
        "# mean and standard deviation of each feature, or of its logarithm to base 10",
        "SCALES: dict[str, tuple[float, float]] = {",
        *(f'    "{name}": {scales[name]!r},' for name in sorted(scales)),
        "}",
        "# of each side: its intercept, and the weights of its features as theory.SIDES lists them",
        "WEIGHTS: dict[tuple[str, str], tuple[float, tuple[float, ...]]] = {",
    ]
    for place, (cause, side) in enumerate(SIDES):
        n = len(theory.SIDES[cause, side])
        factors = tuple(round(float(f), 3) for f in model.factors[place, :n])
        intercept = round(float(model.intercepts[place]), 3)
        text.append(f'    ("{cause}", "{side}"): ({intercept}, {factors!r}),')
    position = [round(float(v), 3) for v in model.position]
    text += [
        "}",
        f"POSITION: tuple[float, tuple[float, ...]] = ({position[0]}, {tuple(position[1:])!r})",
        "# from a probability as it is scored to how often it was right",
        "CALIBRATION: tuple[tuple[float, float], ...] = (",
        *(f"    {knot!r}," for knot in knots),
        ")",
        "# the same of calm runs",
        "CALM_CALIBRATION: tuple[tuple[float, float], ...] = (",
        *(f"    {knot!r}," for knot in calm_knots),
        ")",
    ]
    path.write_text("\n".join(text) + "\n")


def main() -> None:
    """Read, fit, tell, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kept", type=Path, help="file that keeps what was measured")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    cases = read_cases(arguments.folder, arguments.kept)
    weights.SCALES.clear()
    weights.SCALES.update(fit_scales(cases))
    shares = out_of_data(cases)
    knots = fit_calibration(cases, shares)
    calm_knots = fit_calibration(cases, shares, calm=True)
    print(describe(cases, shares, knots))
    print(describe_calm(cases, shares, calm_knots))
    if arguments.write:
        names = "".join(sorted(case.name for case in cases)).encode()
        n_true = sum(bool(case.causes) for case in cases)
        note = (
            f"From {len(cases)} runs on {', '.join(sorted({c.data for c in cases}))}, {n_true} of"
            f" them with a fault\nthat came true; runs {hashlib.sha256(names).hexdigest()[:12]}."
        )
        write_weights(Path(weights.__file__), weights.SCALES, fit(cases), knots, calm_knots, note)


if __name__ == "__main__":
    main()
