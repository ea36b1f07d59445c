"""What to change: arguments as they were and as they should be, and the call to copy."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from sensorseq.fluctuation.cause_cards import as_well
from sensorseq.fluctuation.cause_words import (
    Fix,
    can_probe,
    find_fix,
    keywords,
    literal,
    not_rejected,
)
from sensorseq.fluctuation.marks import mark
from sensorseq.html.code_block import code_block

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

APPLY = "better = proof.apply()\nbetter.fit(X, y, groups=groups)"
PROBE = "proof = report.probe(X, y, groups=groups, budget=1.0)\nprint(proof)"
ELSE = (
    "<p>Re-runs tell which cause it is, and what repairs it: fit with"
    " <code>SensorLSTMClassifier</code> and probe its report, or give your own network to"
    " <code>probe_module</code>.</p>"
)


def make_fix(report: "FluctuationReport", copied: bool = True) -> str:
    """Return the block; nothing where there is nothing to say.

    Parameters
    ----------
    report : FluctuationReport
        The report.
    copied : bool, default=True
        Whether the code has names, and a button that copies it.
    """
    fix = find_fix(report)
    if fix is None:
        return ""
    parts = [_status(fix)]
    if fix.note:
        parts.append(f"<p>{escape(fix.note)}</p>")
    if fix.arguments:
        parts.append(_table(fix))
        if fix.is_proved:
            parts.append("<p>The report of the re-runs makes the classifier:</p>")
            parts.append(code_block(APPLY, "apply" * copied))
            parts.append("<p>The same by hand:</p>")
        lines = keywords(fix.arguments, ",\n    ")
        by_hand = f"clf.set_params(\n    {lines},\n)"
        parts.append(code_block(by_hand, "repair" * copied))
        parts.append(_alternatives(report, fix.arguments))
    if can_probe(report):
        parts.append("<p>Which cause it is, and what repairs it, re-runs of the fit tell:</p>")
        parts.append(code_block(PROBE, "probe" * copied))
    elif report.probes is None:
        parts.append(ELSE)
    return f'<section class="fix"><h2>What to change</h2>{"".join(parts)}</section>'


def _status(fix: Fix) -> str:
    words = fix.status
    if fix.is_proved:
        grade, _, rest = words.partition(": ") if words.startswith("repaired") else (words, "", "")
        word = "repaired" if rest else "proved"
        return f"<p>{mark(word)} {escape(rest or grade.removeprefix('proved '))}.</p>"
    if fix.arguments:
        return f"<p>{mark('not proved')}; it is what the likeliest cause asks for.</p>"
    return f"<p>{escape(words[:1].upper() + words[1:])}.</p>"


def _table(fix: Fix) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th>'
        + (f"<td>{_before(fix.previous, name)}</td>" if fix.previous else "")
        + f"<td><code>{escape(literal(value))}</code></td></tr>"
        for name, value in fix.arguments.items()
    )
    heads = ["argument", *(["was"] if fix.previous else []), "should be"]
    head = "".join(f'<th scope="col">{words}</th>' for words in heads)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="arguments to change">'
        f'<table class="change"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _before(previous: Mapping[str, Any], name: str) -> str:
    return f"<code>{escape(literal(previous[name]))}</code>" if name in previous else "not known"


def _alternatives(report: "FluctuationReport", arguments: Mapping[str, Any]) -> str:
    """Return what else would do, of the causes that these arguments repair."""
    return "".join(
        as_well(cause.alternatives)
        for cause in not_rejected(report)
        if cause.recommendation and all(name in arguments for name in cause.recommendation)
    )
