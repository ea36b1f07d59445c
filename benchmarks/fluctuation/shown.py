"""What of the fluctuation benchmark is shown: what was wanted beside what was measured.

Rates stand with the outer ends of both their intervals, E. B. Wilson's of single runs and the
bootstrap's over clusters: the one is too narrow where runs fail together, the other where all
of them or none did.
"""

from collections.abc import Iterable
from typing import Any

from fluctuation.repair import OURS, OURS_UNPROVED
from fluctuation.rows import (
    ALIKE,
    CONFIGURATION,
    COST,
    HARMED,
    MIXED,
    NAMED,
    NAMED_RIGHT,
    NOTHING,
    OPEN,
    PROBED,
    PROVED,
    QUICK,
    REPAIRED,
    REPEATED,
    SAME_ARGUMENTS,
    STATISTICS,
    TOP_1,
    TOP_2,
)
from fluctuation.simple_repairs import RIVAL_REPAIRS
from fluctuation.table import COST_TARGETS, ERROR_TARGET, TARGETS

Results = dict[str, Any]
Target = tuple[str, float]

NOT_MEASURED = "not measured"
NAMES = {
    (TOP_1, STATISTICS): "first cause right, statistics alone",
    (TOP_2, STATISTICS): "one of the first two right, statistics alone",
    (TOP_1, PROBED): "first cause right, with probes",
    (TOP_2, PROBED): "one of the first two right, with probes",
    (MIXED, PROBED): "both causes of a mixture in the first three, with probes",
    (PROVED, PROBED): "what is called proved is right",
    (REPAIRED, OURS): "strictly repaired, where an argument can",
    (HARMED, OURS): "harmed by the repair",
    (REPEATED, STATISTICS): "same first answer from every seed",
}
COST_NAMES = {PROBED: "cost of the probes", QUICK: "cost of the quick probes"}
BESIDE = (TOP_1, ALIKE, TOP_2, NAMED, NAMED_RIGHT, NOTHING, SAME_ARGUMENTS)
OF_REPAIRS = (
    ("strictly repaired, where an argument can", REPAIRED, "all"),
    ("of all", REPAIRED, "also where no argument can"),
    ("where it changed something", REPAIRED, "where something was changed"),
    ("harmed, of all", HARMED, "where a fault came true"),
)


def fluctuation_table(results: Results) -> str:
    """Say what was wanted and reached, and what others do beside it."""
    lines = [
        "Whether the cause is named, proved and repaired, on faults injected beside healthy twins"
        " ([how](fluctuation.md)):",
        "",
        "| | wanted | measured | of | reached |",
        "|---" * 5 + "|",
        *_wanted(results),
        "",
        f"| causes | {' | '.join(BESIDE)} |",
        "|---" * (1 + len(BESIDE)) + "|",
    ]
    for judge in (STATISTICS, QUICK, PROBED, CONFIGURATION):
        cells = [_cell(_find(results, row, judge)) for row in BESIDE]
        lines += _line(judge, cells)
    lines += ["", f"| repairs | {' | '.join(title for title, _, _ in OF_REPAIRS)} |"]
    lines += ["|---" * (1 + len(OF_REPAIRS)) + "|"]
    for judge in (OURS, OURS_UNPROVED, *RIVAL_REPAIRS):
        cells = [_cell(_find(results, row, judge, kind)) for _, row, kind in OF_REPAIRS]
        lines += _line(judge, cells)
    facts = results["environment"]
    lines += [
        "",
        f"{facts['runs_judged']} runs of data sets, seeds and strengths that nothing was calibrated"
        f" on, {facts['runs_probed']} of them probed; {_left_out(facts)}. In brackets 95 %"
        " intervals, the outer ends of Wilson's and of a bootstrap over data sets and causes; bold"
        " where the whole interval says so. A fault that only costs accuracy, on a curve as calm as"
        " its twin's, shows by no noise: it counts in the first lines, not in those of runs that"
        " fluctuate or fail.",
    ]
    return "\n".join(lines)


def fluctuation_details(results: Results) -> str:
    """Show the pictures of confidence and confusion, with what is in them in words."""
    held = [found for found in results["environment"]["reliability"] if found["runs"]]
    errors = "; ".join(
        f"{found['judge']} {found['expected_error']:.3f} over {found['runs']} runs"
        for found in held
    )
    return "\n".join(
        (
            "![How often first causes of some confidence are right, with 95 % intervals]"
            "(images/fluctuation_reliability.png)",
            "",
            f"Mean distance between confidence and how often it is right: {errors}. Wanted"
            f" {_aim(ERROR_TARGET, '{:.2f}')}, with probes.",
            "",
            "![Which cause is taken for which: injected cause by first answer]"
            "(images/fluctuation_confusion.png)",
            "",
            "Rows are what was injected and came true, columns the first answer; mixtures are left"
            " out, and so are runs at a constant rate without a fault, of which no twin tells"
            " whether the rate is too high. On few or shifted validation windows, and on dropout,"
            " normal is right as well, unless the model itself moves or does not learn.",
        )
    )


def _wanted(results: Results) -> Iterable[str]:
    for (row, judge), name in NAMES.items():
        target = TARGETS[row, judge]
        yield _against(name, target, _find(results, row, judge), "{:.0f} %", 100)
        if row in (TOP_1, TOP_2):
            openly = _find(results, row, judge, OPEN)
            yield _against(
                f"- of runs that fluctuate or fail: {name}", target, openly, "{:.0f} %", 100
            )
    for (judge, kind), target in COST_TARGETS.items():
        found = _find(results, COST, judge, kind)
        yield _against(f"{COST_NAMES[judge]}, {kind}", target, found, "{:.1f}x the fit")
    found = next(
        (
            {"value": found["expected_error"], "runs": found["runs"]}
            for found in results["environment"]["reliability"]
            if found["judge"] == PROBED and found["runs"]
        ),
        None,
    )
    yield _against("error of the confidence, with probes", ERROR_TARGET, found, "{:.2f}")


def _find(results: Results, row: str, judge: str, kind: str = "all") -> Results | None:
    wanted = (row, judge, kind)
    found = (r for r in results["rows"] if (r["row"], r["judge"], r["kind"]) == wanted)
    return next(found, None)


def _interval(row: Results) -> tuple[float, float] | None:
    """Return the outer ends of what intervals a row has."""
    held = [row[name] for name in ("wilson", "cluster_bootstrap") if name in row]
    if not held:
        return None
    return min(low for low, _ in held), max(high for _, high in held)


def _aim(target: Target, form: str, times: float = 1) -> str:
    return f"{target[0]} {form.format(times * target[1])}"


def _against(name: str, target: Target, row: Results | None, form: str, times: float = 1) -> str:
    """Say a line of what was wanted beside what was measured."""
    aim = _aim(target, form, times)
    if row is None:
        return f"| {name} | {aim} | {NOT_MEASURED} | | |"
    value = row["rate"] if "rate" in row else row["value"]
    said = _cell(row) if "rate" in row else f"{value:.3f}" if form == "{:.2f}" else _times(row)
    is_reached = _reaches(value, target)
    ends = _interval(row)
    is_sure = ends is not None and all(_reaches(end, target) == is_reached for end in ends)
    word = "yes" if is_reached else "no"
    return f"| {name} | {aim} | {said} | {row['runs']} | {f'**{word}**' if is_sure else word} |"


def _reaches(value: float, target: Target) -> bool:
    return value >= target[1] if target[0] == "at least" else value <= target[1]


def _times(row: Results) -> str:
    low, high = row["cluster_bootstrap"]
    return f"{row['value']:.2f}x [{low:.2f}, {high:.2f}]"


def _cell(row: Results | None) -> str:
    if row is None:
        return ""
    low, high = (100 * end for end in _interval(row) or (0.0, 1.0))
    return f"{100 * row['rate']:.1f} % [{low:.1f}, {high:.1f}]"


def _line(name: str, cells: list[str]) -> list[str]:
    """Return a line, or none where nothing was measured."""
    return [f"| {name} | {' | '.join(cells)} |"] if any(cells) else []


def _left_out(facts: Results) -> str:
    count = sum(facts["left_out"].values())
    return f"{count} left out, as they or their twins did not learn" if count else "none left out"
