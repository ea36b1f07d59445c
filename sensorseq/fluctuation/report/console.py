"""A FluctuationReport as text: at most 24 lines of 80 columns, what matters first."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sensorseq.errors import printable
from sensorseq.fluctuation.causes.cause import Cause, Family
from sensorseq.fluctuation.causes.table import FAMILIES, UNKNOWN
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.report.words import (
    Answer,
    Command,
    Step,
    answer,
    banner_words,
    chance_of,
    cost_words,
    list_steps,
    sizes,
)
from sensorseq.fluctuation.statistics.statements import of_topic

_WIDTH, _HEIGHT, _CALM_HEIGHT, _INDENT = 80, 24, 16, 10
_TITLE, _GRADE = 44, 10  # columns
_ON_PAGE = {"explanation": "findings", "causes": "causes"}
_WHY = 4  # section of the figures behind what is said first
_FIRST = ("accuracy", "loss", "generalization", "failure")  # topics of what is said first
_MORE = 'report.to_html("report.html") shows the curves and every figure.'


class _Block(NamedTuple):
    """Lines that are shown together or not at all."""

    rank: int  # the lower, the sooner it gets room
    section: int  # where it stands
    lines: list[str]
    counts_as: str = ""  # what is one less where it is left out


def write_report(
    report: FluctuationReport, command: Command | None = None, page: str | None = None
) -> str:
    """Return the text; what to do is told as commands where `command` returns the line of a change.

    `page` shows the page, for a reader at a command line: a file or a command.
    """
    head = [
        *_wrap("FLUCTUATION REPORT   ", sizes(report), most=2, indent=21),
        *_wrap("Verdict", banner_words(report).upper(), most=2),
    ]
    steps = list_steps(report, command)
    answers = {part.label: part for part in answer(report, steps)}
    blocks = [
        *_in_short(answers, steps),
        *_findings(report, answers.values()),
        *_what_to_do(report, steps[1:]),
        *_causes(report.families),
        *(
            _Block(6, 5, _wrap(part.label, part.text), "explanation" if part.statement else "")
            for label in ("Longer?", "Kept")
            for part in [answers[label]]
        ),
    ]
    is_fine = report.verdict == "normal" and not (report.generalization or report.level)
    height = _CALM_HEIGHT if is_fine and not report.causes else _HEIGHT
    shown, left_out = _choose(blocks, height - len(head) - 1)
    notes = [
        f"{left_out.count(name)} more in report.{name}"
        if page is None
        else f"{left_out.count(name)} more {_ON_PAGE[name]} on the page"
        for name in dict.fromkeys(left_out)
    ]
    shown += [_Block(0, 9, _wrap("", f"... {'; '.join(notes)}"))] if notes else []
    why = next((block for block in shown if block.section == _WHY and block.lines), None)
    if why is not None:
        why.lines[0] = "Why".ljust(_INDENT) + why.lines[0][_INDENT:]
    lines = [line for block in sorted(shown, key=lambda b: b.section) for line in block.lines]
    more = _MORE if page is None else f"{page} shows the curves and every figure."
    return printable("\n".join([*head, *lines, *_wrap("More", more)]), "\n")


def _choose(blocks: Sequence[_Block], room: int) -> tuple[list[_Block], list[str]]:
    """Return the blocks for which there is room, by rank, and what those left out count as."""
    if sum(len(block.lines) for block in blocks) > room:
        room -= 1  # for saying that something was left out
    shown, left_out = [], []
    for block in sorted(blocks, key=lambda b: b.rank):
        # a later cause without the name of its family, or before a likelier one, would mislead
        is_out_of_turn = block.counts_as == "causes" and "causes" in left_out
        if len(block.lines) <= room and not is_out_of_turn:
            shown.append(block)
            room -= len(block.lines)
        elif block.counts_as:
            left_out.append(block.counts_as)
    order = {id(block): place for place, block in enumerate(blocks)}
    return sorted(shown, key=lambda block: order[id(block)]), left_out


def _in_short(answers: Mapping[str, Answer], steps: Sequence[Step]) -> list[_Block]:
    """Return whether something is wrong, what to do first, and what that will bring."""
    text = [answers["Step"].text, *([f"({steps[0].mark})"] if steps and steps[0].mark else [])]
    blocks = [
        _Block(0, 0, _wrap("Problem", answers["Problem"].text, most=4)),
        _Block(0, 0, _wrap("Step", " ".join(text), most=5)),
        *[_Block(2, 0, _typed(step)) for step in steps[:1]],
    ]
    if "Gain" in answers:
        blocks.append(_Block(0, 0, _wrap("Gain", answers["Gain"].text, most=4)))
    return blocks


def _findings(report: FluctuationReport, answers: Iterable[Answer]) -> list[_Block]:
    said = [part.statement for part in answers]
    said += of_topic(report.statements, "level")
    others = [part for part in report.statements if part not in said]
    first = of_topic(others, *_FIRST)[:3] or others[:1]
    first += of_topic(report.statements, "recovery", "parts")
    blocks = [
        _Block(2, 1, _wrap("" if n else "Seen", str(part)), "explanation")
        for n, part in enumerate(first)
    ]
    rest = [part for part in report.statements if part not in first and part not in said]
    return blocks + [_Block(8, _WHY, _wrap("", str(part)), "explanation") for part in rest]


def _what_to_do(report: FluctuationReport, steps: Sequence[Step]) -> list[_Block]:
    blocks = []
    for number, step in enumerate(steps):
        mark = f" ({step.mark})" if step.mark else ""
        lines = _wrap("" if number else "Then", f"{step.text}{mark}")
        blocks.append(_Block(3, 3, [*lines, *_typed(step)]))
    if report.probes is not None:
        blocks.append(_Block(5, 3, _wrap("Cost", f"probes {cost_words(report.probes)}")))
        untested = ", ".join(f"{part.cause} ({part.reason})" for part in report.probes.not_tested)
        blocks += [_Block(9, 3, _wrap("Untested", untested))] if untested else []
    return blocks


def _typed(step: Step) -> list[str]:
    """Return what is typed, command or Python, in lines that can be pasted."""
    lines = []
    for part in _code(step):
        is_command = bool(step.command)  # of several lines: it can be pasted as it is
        width = _WIDTH - 2 * is_command
        typed = _wrap("", part, indent=_INDENT + 3, hang=4, width=width)
        lines += [f"{line} \\" for line in typed[:-1]] + typed[-1:] if is_command else typed
    return lines


def _code(step: Step) -> list[str]:
    """Return the command of a step, or else its Python, a call on one line."""
    if step.command:
        return [step.command]
    call, end, rest = step.code.partition(",\n)")
    lines = [" ".join(f"{call})".split()).replace("( ", "("), *rest.split("\n")] if end else []
    return [line for line in lines or step.code.split("\n") if line and line[0] != "#"]


def _causes(families: Iterable[Family]) -> list[_Block]:
    blocks: list[_Block] = []
    rank = 0
    for family in families:
        chance = chance_of(family)
        name = FAMILIES.get(family.name, family.name)
        title = f"{name}, {chance}" if chance and family.name != UNKNOWN else ""
        for cause in family.causes:
            is_unknown = cause.name == UNKNOWN
            if is_unknown and blocks:
                continue  # what is not known matters where it leads
            rank += not is_unknown
            lines = _wrap("", title) if title else []
            title = ""
            lines.append(" " * _INDENT + "unclear" if is_unknown else _headline(str(rank), cause))
            is_first = not blocks
            if is_first:
                lines[0] = "Cause".ljust(_INDENT) + lines[0][_INDENT:]
            blocks.append(_Block(1 if is_first else 4 if rank < 5 else 7, 2, lines, "causes"))
            if is_first and not is_unknown and cause.evidence.split():
                blocks.append(_Block(4, 2, _wrap("", cause.evidence, indent=_INDENT + 2)))
    return blocks


def _headline(rank: str, cause: Cause) -> str:
    title = textwrap.shorten(printable(cause.title), _TITLE, placeholder=" ...") or "?"
    grade = textwrap.shorten(printable(cause.grade.upper()), _GRADE, placeholder="...")
    sure = chance_of(cause)[:8]
    line = f"{rank:>{_INDENT + 1}} {title:<{_TITLE}} {grade:<{_GRADE}} {sure:>6}"
    return line[:_WIDTH].rstrip()


def _wrap(
    label: str,
    text: str,
    most: int | None = None,
    indent: int = _INDENT,
    hang: int = 0,
    width: int = _WIDTH,
) -> list[str]:
    lines = textwrap.wrap(
        # no line begins with the sign of a per cent
        printable(" ".join(text.split())).replace(" %", "\N{NO-BREAK SPACE}%"),
        width,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * (indent + hang),
        max_lines=most,
        placeholder=" ...",
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
