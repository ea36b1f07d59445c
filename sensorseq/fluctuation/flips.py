"""Flips: which validation windows change sides, and whether they do so together."""

import math

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.run import Run, plural, points
from sensorseq.fluctuation.thresholds import (
    ALPHA,
    EXCESS_RATIO,
    MIN_EPOCHS,
    MIN_GROUPS,
    RESTLESS_SHARE,
    RESTLESS_WINDOWS,
)


class Flips:
    """What explains a rough validation curve: its size, recordings, a few windows or the model."""

    def __init__(self, run: Run) -> None:
        self.known = False
        self.why = ""
        record = run.followed
        if record is None:
            return
        correct = record.val_correct[run.first :]
        if correct.shape[0] < MIN_EPOCHS or correct.shape[1] < 2:
            return
        self.known = True
        self.n_windows = correct.shape[1]
        groups = record.val_groups
        self.n_groups = len(np.unique(groups)) if groups is not None else None
        if self.n_groups == self.n_windows:  # every window its own recording: nothing to add
            groups = self.n_groups = None
        self.variance = metrics.accuracy_variance(correct, groups)
        self.by_window = metrics.common_mode_test(correct)
        self.by_group = metrics.common_mode_test(correct, groups) if groups is not None else None
        self.rates = metrics.flip_rates(correct)
        self.restless = metrics.flip_share(self.rates, RESTLESS_WINDOWS)
        self.independent_sd = math.sqrt(self.variance.independent)
        self.why = self._explain()
        self._add_statistics(run)
        classes = record.val_predicted[run.first :]
        run.add("val_churn", float(metrics.churn(classes).mean()), "fraction")

    def _explain(self) -> str:
        """Return small, windows, recordings, together or unknown; nothing when none ever flips."""
        if not self.variance.independent > 0:
            return ""
        if not self._moves_together(self.by_window):
            return "windows" if self.restless >= RESTLESS_SHARE else "small"
        if self.by_group is None or self.n_groups is None or self.n_groups < MIN_GROUPS:
            return "unknown"
        return "together" if self._moves_together(self.by_group) else "recordings"

    @staticmethod
    def _moves_together(test: metrics.NullTest) -> bool:
        return test.value > EXCESS_RATIO and test.p < ALPHA

    def _add_statistics(self, run: Run) -> None:
        variance = self.variance
        run.add(
            "val_accuracy_independent_noise",
            self.independent_sd,
            "fraction",
            None,
            f"what {plural(self.n_windows, 'window')} flipping independently give",
        )
        run.add("val_flips_of_restless_windows", self.restless, "fraction", RESTLESS_WINDOWS, "all")
        if not variance.independent > 0:
            return
        run.add("val_common_mode", variance.ratio, "ratio", 1.0, "chance", p=self.by_window.p)
        if variance.total > 0:
            run.add("val_effective_windows", variance.n_effective, "windows")
            run.add("val_variance_by_windows", variance.independent / variance.total, "ratio")
        if variance.grouped is None or self.by_group is None:
            return
        run.add("val_accuracy_group_noise", math.sqrt(variance.grouped), "fraction")
        run.add(
            "val_groups", self.n_groups or 0, "groups", MIN_GROUPS, "needed to see a moving model"
        )
        if variance.grouped > 0:
            p = self.by_group.p
            run.add("val_common_mode_of_groups", variance.group_ratio, "ratio", 1.0, "chance", p=p)
            if variance.total > 0:
                run.add("val_variance_by_groups", variance.grouped / variance.total, "ratio")

    @property
    def acquits(self) -> bool:
        """Whether something other than the model explains what exceeds the sampling of windows."""
        return self.known and self.n_groups is not None and self.why in {"recordings", "unknown"}

    def sentences(self) -> list[str]:
        """Return why the validation curve is rough, with the figures; nothing when unknown."""
        if not self.why:
            return []
        n = plural(self.n_windows, "validation window")
        ratio, p = f"R = {self.variance.ratio:.1f}", f"p = {self.by_window.p:.3f}"
        if self.why == "small":
            return [
                f"The windows flip independently of each other ({ratio}, {p}):"
                f" +-{points(self.independent_sd)} points is what so few of them give, and nothing"
                " to repair."
            ]
        if self.why == "windows":
            return [
                f"{100 * RESTLESS_WINDOWS:.0f} % of the windows carry {100 * self.restless:.0f} %"
                " of all flips: borderline or mislabelled windows make the curve rough."
            ]
        n_effective = max(round(self.variance.n_effective), 1)
        like = f"{n} move like {n_effective} independent ones ({ratio}, {p})"
        if self.by_group is None:
            return [
                f"Your {like}. Whether recordings flip as blocks or the model moves as a whole"
                " cannot be told without groups."
            ]
        if self.why == "unknown":
            return [
                f"Your {like}. Whether recordings flip as blocks or the model moves as a whole"
                f" cannot be told from {plural(self.n_groups or 0, 'group')}; {MIN_GROUPS} are"
                " needed."
            ]
        group = f"R_g = {self.variance.group_ratio:.1f}, p = {self.by_group.p:.3f}"
        if self.why == "recordings":
            return [
                f"Your {like}: each recording flips as a block, independently of the others"
                f" ({group}). Few recordings make the curve rough."
            ]
        return [
            f"Your {like}, and different recordings flip together ({group}): the model moves as a"
            " whole."
        ]

    def shares_sentence(self) -> list[str]:
        """Return how much of the movement each source explains, for a model that moves too much."""
        total = self.variance.total if self.known else 0.0
        if not total > 0:
            return []
        by_windows = min(self.variance.independent / total, 1.0)
        if self.variance.grouped is None:
            return [
                f"Of the variance of the accuracy, windows flipping independently explain"
                f" {100 * by_windows:.0f} %; the rest is windows flipping together."
            ]
        by_groups = min(max(self.variance.grouped / total, by_windows), 1.0)
        return [
            f"Of the variance of the accuracy, windows flipping independently explain"
            f" {100 * by_windows:.0f} %, recordings flipping as blocks"
            f" {100 * (by_groups - by_windows):.0f} %, the model as a whole"
            f" {100 * (1 - by_groups):.0f} %."
        ]
