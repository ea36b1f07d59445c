"""check_data: findings about the windows as causes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sensorseq.data_checks import Finding, Part, check_windows
from sensorseq.fluctuation.causes.cause import Cause

if TYPE_CHECKING:
    from sensorseq.fluctuation.race.arm import LabWindows


class _Kind(NamedTuple):
    """The cause that a kind of finding is, its words, and its confidence; if severe the second."""

    name: str
    finding: str
    confidence: float
    if_severe: float = 0.0


# The confidences are low but where little else is left to explain the labels.
KINDS = {
    "labels_off": _Kind("data_bug", "labels are {distance} off", 0.85),
    "two_labels": _Kind("data_bug", "one window, two labels", 0.3, 0.6),
    "windows_in_both_parts": _Kind("data_bug", "training windows in validation", 0.1, 0.3),
    "windows_overlap": _Kind("data_bug", "validation overlaps training", 0.1, 0.3),
    "constant_channels": _Kind("data_bug", "constant channel", 0.05, 0.9),
    "clock_channels": _Kind("data_bug", "a clock among the channels", 0.3),
    "still_windows": _Kind("data_bug", "windows without a signal", 0.15),
    "class_not_in_training": _Kind("data_bug", "class missing in training", 0.2, 0.4),
    "class_not_in_validation": _Kind("distribution_shift", "class missing in validation", 0.15),
    "level_shift": _Kind("distribution_shift", "another level in validation", 0.2, 0.35),
    "not_scaled": _Kind("preprocessing", "not scaled", 0.25, 0.4),
    "padding_as_signal": _Kind("preprocessing", "padding read as signal", 0.25),
    "outliers": _Kind("preprocessing", "outliers", 0.15),
}
SCALES = {"not_scaled": ("standard", "robust"), "outliers": ("robust",)}


def check_data(
    train: "LabWindows",
    validation: "LabWindows | None" = None,
    *,
    channels: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> list[Cause]:
    """Return what `check_windows` finds as causes, the most confident first.

    All are deterministic facts, graded ``"supported"``. A fact need not make the run fluctuate.

    Parameters
    ----------
    train, validation : LabWindows
        Windows as the network sees them; finite.
    channels, classes : sequence, optional
        Names of the channels, and of the classes by code.
    arguments : mapping, optional
        Of the estimator. They word the recommendations.
    """
    parts = [
        None if windows is None else Part(*windows, channels=channels, classes=classes)
        for windows in (train, validation)
    ]
    assert parts[0] is not None
    return causes_of(check_windows(parts[0], parts[1]), arguments)


def causes_of(
    findings: Iterable[Finding], arguments: Mapping[str, Any] | None = None
) -> list[Cause]:
    """Return findings that may be the cause of what a run does, the most confident first."""
    found = [_cause_of(one, arguments or {}) for one in findings if one.kind in KINDS]
    return sorted(found, key=lambda cause: -cause.confidence)


def _cause_of(finding: Finding, arguments: Mapping[str, Any]) -> Cause:
    kind, advice = KINDS[finding.kind], finding.advice
    changes: list[dict[str, Any]] = []
    if finding.kind in SCALES:
        scales, scale = SCALES[finding.kind], arguments.get("scale")
        if not arguments or ("scale" in arguments and scale not in scales):
            changes = [{"scale": name} for name in scales]
        if finding.kind == "not_scaled" and scale is not None:
            advice = "Check why values that were scaled are so far off."
    return Cause(
        kind.name,
        "supported",
        kind.if_severe if finding.values.get("severe") else kind.confidence,
        finding.text,
        finding=kind.finding.format(**finding.values),
        recommendation=changes[0] if changes else {},
        alternatives=tuple(changes[1:]),
        advice=advice,
    )
