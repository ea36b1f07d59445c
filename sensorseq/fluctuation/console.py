"""A FluctuationReport as text: at most 24 lines of 80 columns, what matters first."""

import textwrap
from typing import TYPE_CHECKING

from sensorseq.fluctuation.cause_words import (
    call,
    can_probe,
    cost_words,
    find_fix,
    likely,
    not_rejected,
)
from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.table import UNKNOWN
from sensorseq.fluctuation.words import answer, banner_words, remaining, sizes

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

_WIDTH, _HEIGHT, _CALM_HEIGHT, _INDENT = 80, 24, 14, 10
_TITLE, _GRADE = 44, 10  # columns
_PROBE = "report.probe(X, y, groups=groups) tries it by re-runs"
_ELSE = "SensorLSTMClassifier and probe_module try it by re-runs"
_MORE = 'report.to_html("report.html") shows the curves and every figure.'


def write_report(report: "FluctuationReport") -> str:
    """Return the text."""
    answers = answer(report)
    first, *rest = remaining(report, answers) or [""]
    with_findings = bool(report.causes or report.probes)
    head = [
        *_block("FLUCTUATION REPORT   ", sizes(report), most=2, indent=21),
        *_block("Verdict", banner_words(report).upper(), most=2),
        *_block("", first, most=3 if with_findings else 6),
    ]
    most = 2 if with_findings else 3
    foot = [line for part in answers for line in _block(part.label, part.text, most=most)]
    foot += _block("More", _MORE)
    remedy = _remedy(report)
    height = _CALM_HEIGHT if report.verdict == "normal" else _HEIGHT
    used = len(head) + len(remedy) + len(foot)
    # However much there is to say, the first causes are said.
    room = max(height - used, min(4, _HEIGHT - used))
    causes = _causes(report.causes, room)
    reasons = _reasons(rest, height - used - len(causes))
    return "\n".join([*head, *reasons, *causes, *remedy, *foot])


def _reasons(sentences: list[str], room: int) -> list[str]:
    reasons: list[str] = []
    for n_said, sentence in enumerate(sentences):
        block = _block("Why" if n_said == 0 else "", sentence)
        # One line is kept for saying that something was left out.
        if len(reasons) + len(block) > room - (n_said < len(sentences) - 1):
            n_more = len(sentences) - n_said
            if len(reasons) < room:
                reasons += _block("", f"... {n_more} more: print(*report.explanation, sep='\\n')")
            break
        reasons += block
    return reasons


def _causes(causes: tuple[Cause, ...], room: int) -> list[str]:
    """Return a line for each cause, and of its evidence as much as there is room for."""
    if not causes:
        return []
    n_shown = len(causes) if len(causes) <= room else max(room - 1, 0)
    shown = causes[:n_shown]
    evidence = [_block("", cause.evidence, indent=_INDENT + 2) for cause in shown]
    is_cut = n_shown < len(causes)
    lines_of = _share_out([len(lines) for lines in evidence], room - n_shown - is_cut)
    lines, rank = [], 0
    for cause, most in zip(shown, lines_of, strict=True):
        mark = {cause.grade == "rejected": "-", cause.name == UNKNOWN: "?"}.get(True, "")
        rank += not mark
        lines.append(_headline(mark or str(rank), cause))
        if most:
            lines += _block("", cause.evidence, most=most, indent=_INDENT + 2)
    if is_cut:
        lines += _block("", f"... {len(causes) - n_shown} more: report.causes")
    if lines:
        lines[0] = "Cause".ljust(_INDENT) + lines[0][_INDENT:]
    return lines


def _share_out(wanted: list[int], room: int) -> list[int]:
    """Return how many lines each gets: two for the first, one for each other, then in turn."""
    given = [0] * len(wanted)
    turns = [0, *range(len(wanted))]
    while room > 0 and given != wanted:
        for number in turns:
            if room > 0 and given[number] < wanted[number]:
                given[number] += 1
                room -= 1
        turns = list(range(len(wanted)))
    return given


def _headline(rank: str, cause: Cause) -> str:
    title = textwrap.shorten(cause.title, _TITLE, placeholder=" ...") or "?"
    grade = textwrap.shorten(cause.grade.upper(), _GRADE, placeholder="...")
    sure = "" if cause.grade == "rejected" else likely(cause.confidence)[:8]
    line = f"{rank:>{_INDENT + 1}} {title:<{_TITLE}} {grade:<{_GRADE}} {sure:>6}"
    return line[:_WIDTH].rstrip()


def _remedy(report: "FluctuationReport") -> list[str]:
    """Return what to change, what finding it took, and what was not tried."""
    lines = []
    probes, fix = report.probes, find_fix(report)
    if fix is not None and fix.arguments and fix.is_proved:
        lines += _block("Fix", call(fix.arguments), most=3)
        lines += _block("", f"{fix.status}; proof.apply() makes that classifier", most=1)
    elif fix is not None and fix.arguments:
        lines += _block("Fix", f"{fix.status}: {call(fix.arguments)}", most=3)
    elif fix is not None:
        lines += _block("Fix", f"{fix.status}. {fix.note}", most=3 if fix.is_proved else 2)
    elif advice := next((cause.advice for cause in not_rejected(report)), ""):
        lines += _block("Advice", advice, most=2)
    if fix is not None and not fix.is_proved and probes is None:
        lines += _block("", _PROBE if can_probe(report) else _ELSE, most=1)
    if probes is not None:
        lines += _block("Cost", f"probes {cost_words(probes)}", most=1)
        if probes.not_tested:
            untested = ", ".join(f"{part.cause} ({part.reason})" for part in probes.not_tested)
            lines += _block("Untested", untested, most=2)
    return lines


def _block(label: str, text: str, most: int | None = None, indent: int = _INDENT) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        max_lines=most,
        placeholder=" ...",
    )
