"""Weighing causes: what is planted in made-up runs is found, and written as it is read."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
from fluctuation import calibrate as calibrate  # noqa: E402
from fluctuation import weights_fit as model_fit  # noqa: E402
from fluctuation.cases import SIDES, Case  # noqa: E402

from sensorseq.fluctuation.causes import theory, weights  # noqa: E402
from sensorseq.fluctuation.causes.cause import HIDDEN  # noqa: E402
from sensorseq.fluctuation.causes.score import scale_name  # noqa: E402

PLANTED = {  # cause: what it does to a feature, beside noise
    "preprocessing": {"input_scale": 60.0},
    "gradient_clipping": {"grad_tail": 200.0, "grad_peak": 400.0, "spike_lift": 30.0},
    "label_noise": {"stuck_share": 0.4, "stuck_depth": 1.1, "val_wrong_depth": 1.0},
}


def typical(rng):
    """Features of a run that nothing is wrong with, about where the kept scales have them."""
    found = dict.fromkeys(
        {term.feature for terms in (*theory.SIDES.values(), theory.POSITION) for term in terms},
        math.nan,
    )
    for terms in (*theory.SIDES.values(), theory.POSITION):
        for term in terms:
            middle, sd = weights.SCALES[scale_name(term)]
            value = middle + 0.5 * sd * rng.normal()
            found[term.feature] = 10**value if term.is_log else value
    # what signatures look at beside them
    others = ("overshoot", "restless", "common_mode_p")
    return {**found, **dict.fromkeys(others, math.nan)}


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    made = []
    for index in range(120):
        cause = (*PLANTED, "")[index % 4]
        found = {**typical(rng), **PLANTED.get(cause, {})}
        name, data = f"run {index}", ("one", "two", "three")[index % 3]
        causes = (cause,) if cause else ()
        verdict = "fluctuating" if cause else "normal"
        made.append(Case(name, data, "a kind", causes, verdict, found))
    return made


def test_what_was_planted_is_found_on_data_that_was_left_out(cases):
    shares = model_fit.out_of_data(cases)
    assert np.all(shares >= 0)
    assert np.all(shares.sum(axis=1) <= 1 + 1e-9)
    names, of = model_fit.cause_shares(shares)
    sick = [i for i, case in enumerate(cases) if case.causes]
    right = [names[of[i].argmax()] in cases[i].causes for i in sick]
    assert np.mean(right) > 0.9
    well = [i for i, case in enumerate(cases) if not case.causes]
    assert np.median(of[well].max(axis=1)) < 0.5
    knots = model_fit.fit_calibration(cases, shares)
    x, y = zip(*knots, strict=True)
    assert list(x) == sorted(x)
    assert list(y) == sorted(y)
    assert (x[0], x[-1], y[0]) == (0.0, 1.0, 0.0)


def test_a_weight_never_turns_the_sign_of_theory(cases):
    turned = []
    for case in cases:  # runs that say the opposite of what theory does
        features = dict(case.features)
        if case.causes == ("preprocessing",):
            features["input_scale"] = 0.01
        turned.append(Case(case.name, case.data, "", case.causes, "", features))
    model = model_fit.fit(turned)
    place = SIDES.index(("preprocessing", "scale of the inputs"))
    assert model.factors.min() >= 0
    assert model.factors[place, 0] < 0.1


def test_weights_are_written_as_they_are_read(cases, tmp_path):
    model, knots = model_fit.fit(cases), ((0.0, 0.0), (1.0, 0.9))
    path = tmp_path / "weights.py"
    calm_knots = ((0.0, 0.0), (1.0, 0.6))
    calibrate.write_weights(path, weights.SCALES, model, knots, calm_knots, "From runs made up.")
    read = runpy.run_path(str(path))
    assert read["__doc__"].strip().endswith("From runs made up.")
    assert read["SCALES"] == weights.SCALES
    assert set(read["WEIGHTS"]) == set(theory.SIDES)
    for side, (intercept, factors) in read["WEIGHTS"].items():
        place = SIDES.index(side)
        assert intercept == pytest.approx(model.intercepts[place], abs=1e-3)
        assert factors == pytest.approx(tuple(model.factors[place]), abs=1e-3)
    assert read["CALIBRATION"] == knots
    assert read["CALM_CALIBRATION"] == calm_knots


def test_calm_runs_have_a_calibration_of_their_own_causes(cases):
    calm = [replace(case, verdict="normal") for case in cases]
    shares = model_fit.out_of_data(calm)
    knots = model_fit.fit_calibration(calm, shares, calm=True)
    assert (knots[0], knots[-1][0]) == ((0.0, 0.0), 1.0)
    assert [told for _, told in knots] == sorted(told for _, told in knots)
    n_hidden = sum(bool(set(case.causes) & HIDDEN) for case in calm)
    assert n_hidden > 5
    said = calibrate.describe_calm(calm, shares, knots)
    assert f"{len(calm)} runs, {n_hidden} with a hidden cause" in said
