"""What single windows did: which never fit, which flip, which recordings are got wrong."""

import math
import warnings

import numpy as np

from sensorseq.fluctuation.causes.measuring import (
    NAN,
    finite,
    late_epochs,
    mean,
    middle,
    ratio,
    statistic,
)
from sensorseq.fluctuation.run import Run

NAMES = (
    "stuck_share",
    "stuck_depth",
    "fitted_late_share",
    "val_stubborn_share",
    "val_stubborn_of_errors",
    "val_wrong_depth",
    "margin_spread",
    "margin_bimodality",
    "group_spread",
    "groups_failed",
    "common_mode",
    "common_mode_of_groups",
    "common_mode_p",
    "restless",
    "churn",
)
_ALWAYS = 0.9  # of the late epochs: a window that is wrong so often does not merely flip


def measure_windows(run: Run) -> dict[str, float]:
    """Return the features of the windows that were followed one by one."""
    found = dict.fromkeys(NAMES, NAN)
    found.update(_training(run))
    found.update(_validation(run))
    test = run.statistics.get("val_common_mode")
    found["common_mode_p"] = NAN if test is None or test.p is None else test.p
    for feature, name in (
        ("common_mode", "val_common_mode"),
        ("common_mode_of_groups", "val_common_mode_of_groups"),
        ("restless", "val_flips_of_restless_windows"),
        ("churn", "val_churn"),
    ):
        found[feature] = statistic(run, name)
    return found


def _training(run: Run) -> dict[str, float]:
    """Return which training windows never came to fit, by their mean margin (AUM)."""
    record = run.record
    if record is None or len(record.train_margin) != run.n_epochs or run.n_epochs < 6:
        return {}
    margin = np.asarray(record.train_margin, np.float64)
    margin = np.where(np.isfinite(margin), margin, NAN)
    if not margin.shape[1]:
        return {}
    third = run.n_epochs // 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a window that took no part
        middle_margin = np.nanmean(margin[third : 2 * third], axis=0)
        late_margin = np.nanmean(margin[-third:], axis=0)
    known = np.isfinite(middle_margin) & np.isfinite(late_margin)
    if not known.any():
        return {}
    middle_margin, late_margin = middle_margin[known], late_margin[known]
    typical = float(np.median(late_margin))
    stuck = late_margin < 0
    found = {
        "stuck_share": float(stuck.mean()),
        "fitted_late_share": float(((middle_margin < 0) & (late_margin > 0)).mean()),
        "margin_spread": ratio(float(late_margin.std()), abs(typical) + 0.5),
    }
    spread = late_margin.std()
    if spread > 0 and len(late_margin) > 3:
        z = (late_margin - late_margin.mean()) / spread
        # Sarle's coefficient: 1 for two points, 1/3 for a normal and 5/9 for an even distribution
        found["margin_bimodality"] = float(((z**3).mean() ** 2 + 1) / (z**4).mean())
    if stuck.any():
        # a window of another class is as far on the wrong side as others are on the right one
        found["stuck_depth"] = ratio(-float(np.median(late_margin[stuck])), max(typical, 0.0) + 0.5)
    return found


def _validation(run: Run) -> dict[str, float]:
    """Return which validation windows, and which recordings, are wrong and stay so."""
    record = run.followed
    if record is None or record.val_predicted.shape[1] < 2:
        return {}
    late = late_epochs(run)
    wrong = ~record.val_correct[late]
    always = wrong.mean(axis=0) >= _ALWAYS
    found = {
        "val_stubborn_share": float(always.mean()),
        "val_stubborn_of_errors": ratio(float(wrong[:, always].sum()), float(wrong.sum())),
    }
    if record.val_margin.shape == record.val_predicted.shape:
        margin = np.asarray(record.val_margin[late], np.float64)
        right = middle(margin[~wrong])
        found["val_wrong_depth"] = ratio(-middle(margin[wrong]), max(right, 0.0) + 0.5)
    if record.val_groups is not None:
        found.update(_groups(wrong, np.asarray(record.val_groups)))
    return found


def _groups(wrong: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Return whether errors lie in few recordings, against windows that err independently."""
    codes, counts = np.unique(groups, return_counts=True)
    if len(codes) < 2 or counts.max() < 2:
        return {}
    rate = wrong.mean(axis=0)
    level = float(rate.mean())
    per_group = np.array([rate[groups == code].mean() for code in codes])
    # windows that keep their side scatter between groups by their own spread over their number
    expected = float((rate.var() / counts).mean())
    spread = mean((per_group - level) ** 2)
    return {
        "group_spread": math.sqrt(ratio(spread, expected)) if expected > 0 else NAN,
        "groups_failed": float((finite(per_group) > 0.5).mean()),
    }
