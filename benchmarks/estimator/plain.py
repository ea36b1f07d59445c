"""Arguments shared by the fits in the estimator benchmark: a network alone, on the CPU."""

from typing import Any

PLAIN: dict[str, Any] = {
    "early_stopping": False,
    "features": None,
    "refit": None,
    "patch": None,
    "device": "cpu",
    "random_state": 0,
}
ONE_FIT_A_TURN: dict[str, Any] = {"at_least_s": 0.0, "warm_up_runs": 1}  # arguments of `alternate`
