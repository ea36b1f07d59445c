"""Put a report into words: answers, causes, repairs and next steps, for printing and pages."""

import math
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sensorseq.base.text import percent, plural
from sensorseq.diagnosis.causes import TROUBLED, UNKNOWN, Cause, data_fault
from sensorseq.diagnosis.statements import ReportContents, Statement, of_topic, statement_of
from sensorseq.diagnosis.thresholds import MIN_EPOCHS
from sensorseq.errors import printable
from sensorseq.prediction.members.choice import LSTM, Candidate, FeatureChoice

# returns the command line of a fit with changed arguments; None stands for the default settings
Command = Callable[[Mapping[str, Any] | None], str]

# longest line of code, and the separator of arguments in longer calls
_LINE, _NEXT = 66, ",\n    "
GENERALIZATION = {  # advice for each value of `report.generalization`
    "overfitting": "{keep}Record more groups: more data is the most reliable remedy. Dropout"
    " and weight decay help less.",
    "not_generalizing": "Check the split and the labels, then record more groups.",
}

FIT_DEFAULTS = "Fit the default settings, and compare held-out accuracy:"
BY_DEFAULTS = "The defaults repaired 127 of 130 bad runs of the benchmark."
# for a calm run of a network alone
OR_DEFAULTS = "Keep the settings, or fit the defaults to see if the data allow more:"
# Expected gains of untested steps; docs/benchmarks.md has the frequencies (Causes, Repairs).
UNTRIED = "Unknown until it is tried. The cause that a report names is right in 7 of 10 runs."
TOO_SHORT = f"Train for {MIN_EPOCHS + 6} epochs or more."
TOO_FEW = f"Validate in every epoch, and train for {MIN_EPOCHS + 6} epochs or more."
EXCLUDED = (
    "Log a mean cross-entropy in nats, and the accuracy of the same windows. To judge the losses"
    " alone, give {0}; to judge the accuracies alone, {1}."
)
WITHOUT_COLUMNS = (
    "columns={'accuracy': None, 'val_accuracy': None}",
    "columns={'loss': None, 'val_loss': None}",
)
WITHOUT_COLUMN_OPTIONS = (
    "--column accuracy=none --column val_accuracy=none",
    "--column loss=none --column val_loss=none",
)
UNTRIED_DATA = {
    "overfitting": "Unknown: it depends on the new recordings. Going back to the epoch with the"
    " lowest validation loss rarely gets more windows right.",
    "not_generalizing": "Unknown: it depends on the fault found or the new recordings.",
}
AFTER_REPAIR = "Unknown until the data are repaired and the network is fitted again."
UNCLEAR = "Unknown until it is tried: no fault in the data and no unusual setting was found."
DEFAULTS_CODE = "better = SensorLSTMClassifier().fit(X, y, groups=groups)"


def literal(value: Any) -> str:
    """Return a value as Python source."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and value.isprintable() and not {'"', "\\"} & set(value):
        return f'"{value}"'
    name = getattr(value, "__name__", None)
    return name if callable(value) and isinstance(name, str) else repr(value)


def set_params_call(arguments: Mapping[str, Any]) -> str:
    """Return the Python call that sets these arguments on an estimator."""
    return f"clf.set_params({as_keywords(arguments)})"


def as_keywords(arguments: Mapping[str, Any], between: str = ", ") -> str:
    """Return arguments as keyword arguments of a call."""
    return between.join(f"{name}={literal(value)}" for name, value in arguments.items())


def settings_as_options(arguments: Mapping[str, Any]) -> str:
    """Return arguments as options of ``sensorseq train``, quoted for the shell."""
    return "".join(
        f" --set {shlex.quote(f'{name}={_toml(value)}')}" for name, value in arguments.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        parts = [literal(part) if isinstance(part, str) else _toml(part) for part in value]
        return f"[{', '.join(parts)}]"
    return str(value) if re.fullmatch(r"[\w./+-]+", str(value)) else literal(value)


@dataclass(frozen=True)
class NextStep:
    """One recommended step."""

    name: str  # identifies the code of the step on the page
    text: str  # what to do
    gain: str = ""  # the expected gain, if known
    is_untested: bool = False  # True for a change that follows from an unproved cause
    arguments: Mapping[str, str] = field(default_factory=dict)  # new values as Python source
    code: str = ""  # Python code for the step
    command: str = ""  # a shell command for the step


def list_steps(report: ReportContents, command: Command | None = None) -> list[NextStep]:
    """List the next steps in order; `command` returns the shell command that changes arguments."""
    has_fault = data_fault(report.causes) is not None
    repair = _repair(report, command)
    is_about_network = report.network_is_minor and not has_fault
    steps = [] if repair is None or is_about_network else [repair]
    if report.model is None:  # a fit with features already has what makes the defaults better
        is_fine = report.verdict == "normal" and report.generalization is None and not has_fault
        text, gain = (OR_DEFAULTS, _resolution(report)) if is_fine else (FIT_DEFAULTS, BY_DEFAULTS)
        by_command = "" if command is None else command(None)
        defaults = NextStep("defaults", text, gain, code=DEFAULTS_CODE, command=by_command)
        steps.insert(len(steps) if has_fault else 0, defaults)
    if _excludes(report) and report.verdict in ("too_short_to_tell", "not_learning"):
        ways = WITHOUT_COLUMNS if command is None else WITHOUT_COLUMN_OPTIONS
        steps.insert(0, NextStep("columns", EXCLUDED.format(*ways), "A verdict."))
    elif report.verdict == "too_short_to_tell" and report.generalization is None:
        words = TOO_FEW if _validates_too_seldom(report) else TOO_SHORT
        steps.insert(0, NextStep("longer", words, "A verdict, and perhaps better accuracy."))
    if report.generalization is not None:
        keep = _keep_words(report)
        words = GENERALIZATION[report.generalization].format(keep=keep)
        steps.append(NextStep("generalize", words, UNTRIED_DATA[report.generalization]))
    return steps


def _is_unclear(report: ReportContents) -> bool:
    return bool(report.causes) and report.causes[0].name == UNKNOWN


def _keep_words(report: ReportContents) -> str:
    """Recommend an epoch to keep if the accuracy fell; a rising loss alone is not enough."""
    accuracy = np.array(report.history.get("val_accuracy", ()), np.float64)
    fell = any(statement.kind == "got_worse" for statement in report.statements)
    if not fell or not np.isfinite(accuracy).any():
        return ""
    best = int(np.where(np.isfinite(accuracy), accuracy, -np.inf).argmax()) + 1
    return "" if best == report.best_epoch else f"Keep the weights of epoch {best}. "


def _repair(report: ReportContents, command: Command | None) -> NextStep | None:
    """Return the step that counters the likeliest cause."""
    first, fault = next(iter(report.causes), None), data_fault(report.causes)
    if report.verdict == "normal":
        return None if fault is None else NextStep("change", fault.advice, AFTER_REPAIR)
    if first is None or not (first.recommendation or first.advice):
        return None
    if first.recommendation:
        text = _capital(first.advice) or "The likeliest cause calls for this:"
        return _change(command, first.recommendation, text)
    if _is_unclear(report):
        return NextStep("change", first.advice, UNCLEAR)
    return NextStep("change", _capital(first.advice), UNTRIED, is_untested=True)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _change(command: Command | None, arguments: Mapping[str, Any], text: str) -> NextStep:
    """Return a step that sets the arguments that a cause recommends."""
    code = set_params_call(arguments)
    if len(code) > _LINE:
        code = f"clf.set_params(\n    {as_keywords(arguments, _NEXT)},\n)"
    new = {name: literal(value) for name, value in arguments.items()}
    return NextStep("repair", text, UNTRIED, True, new, code, command(arguments) if command else "")


_GENERALIZATION = {"overfitting": "overfits", "not_generalizing": "does not generalize"}
_LATE = 0.9  # if the best epoch is in the last tenth of the run, more epochs may help


@dataclass(frozen=True)
class Answer:
    """A question about the curve, and the report's answer."""

    label: str  # the question as one word, for a column of text
    question: str  # the full question
    text: str  # the answer in one or two sentences
    statement: Statement | None = None  # the statement that the answer quotes


_PROBLEMS = {
    "diverged": "Training broke down.",
    "not_learning": "The network learns nothing useful, however calm the curve looks.",
    "too_short_to_tell": "There are too few epochs to judge.",
}
_POOR_GENERALIZATION = {
    "overfitting": "The network overfits: it gets worse on the validation windows.",
    "not_generalizing": "The training results do not carry over to the validation windows.",
}
_LONGER = {
    "diverged": "No. Training does not recover from a breakdown on its own.",
    "not_learning": "Probably not: a setting or the data must change first.",
    "too_short_to_tell": f"Train longer: {MIN_EPOCHS} epochs after the initial descent are needed"
    " to judge.",
}


def banner_words(report: ReportContents) -> str:
    """Return the verdict in words, with severity and generalization."""
    words = "cannot be judged" if _are_excluded(report) else report.verdict.replace("_", " ")
    words = f"{words} ({report.severity})" if report.severity else words
    if report.generalization is None:
        return words
    conjunction = "but" if report.verdict == "normal" else "and"
    return f"{words}, {conjunction} {_GENERALIZATION[report.generalization]}"


def headline(report: ReportContents) -> str:
    """Return the first words of a report: the accuracy of the model, or else the verdict."""
    if report.model is None:
        return banner_words(report)
    return f"{percent(report.model.candidates[-1].accuracy)} right on new windows"


def describe_accuracy(model: FeatureChoice) -> str:
    """State the accuracy of the model on windows that its members had not seen."""
    accuracy, n_windows = model.candidates[-1].accuracy, plural(model.n_windows, "window")
    words = f"{percent(accuracy)} of {n_windows} left out of training are right"
    if model.interval is None:
        return f"{words}."
    of_groups = "" if model.n_groups is None else f"{plural(model.n_groups, 'group')}; "
    low, high = (100 * end for end in model.interval)
    return f"{words} ({of_groups}95 % interval {low:.0f} to {high:.0f} %)."


def describe_members(model: FeatureChoice) -> str:
    """Name the members of the model with their weights, and the accuracy of each alone."""
    parts, members = [], by_share(model)
    for each in members:
        share = "" if each.share is None else f"{percent(each.share, 0)} of the weight, "
        if each.weight:
            alone = f"alone {percent(each.accuracy, 0)} right"
            parts.append(f"{member_name(each)} ({share}{alone})")
    unused = [member_name(each) for each in members if not each.weight]
    return f"{', '.join(parts)}." + (f" Without weight: {', '.join(unused)}." if unused else "")


def by_share(model: FeatureChoice) -> list[Candidate]:
    """Return the members, those with the largest share first."""
    return sorted(model.candidates[:-1], key=lambda each: -(each.share or each.weight or 0.0))


def member_name(member: Candidate) -> str:
    """Return the name of a member as texts write it."""
    return "LSTM" if member.name == LSTM else member.name


def describe_network(report: ReportContents) -> str:
    """State the weight of the LSTM, and what its curve means for the model."""
    share = None if report.model is None else report.model.lstm_share
    if share is None:
        return "The curve is that of the LSTM alone."
    if not share:
        return "The LSTM has no weight, so its curve means nothing for the model."
    is_troubled = report.verdict in TROUBLED or report.generalization is not None
    harmless = ", so the model loses little by it" * (is_troubled and report.network_is_minor)
    return f"The LSTM has {percent(share, 0)} of the weight{harmless}."


def describe_sizes(report: ReportContents) -> str:
    """Describe the amount of data: epochs, windows and classes."""
    counts = {"train": report.n_train, "validation": report.n_val}
    parts = [f"{count} {part}" for part, count in counts.items() if count is not None]
    facts = [f"{' / '.join(parts)} windows"] if parts else []
    if report.n_classes is not None:
        facts.append(f"{report.n_classes} classes")
    return ", ".join([*facts, plural(report.n_epochs, "epoch")])


def answer_questions(report: ReportContents, steps: Sequence[NextStep]) -> tuple[Answer, ...]:
    """Return the answers in the order of the questions; `steps` are the recommended steps."""
    more, kept = _more_epochs(report), _kept(report)
    quoted = more if isinstance(more, Statement) else None
    text, gain = (steps[0].text, steps[0].gain) if steps else (KEEP, _resolution(report))
    return (
        Answer("Problem", "Is something wrong?", _problem(report)),
        Answer("Step", "What is the best first step?", text),
        *([Answer("Gain", "What gain can I expect?", gain)] if gain else []),
        Answer("Longer?", "Will more epochs help?", str(more), quoted),
        Answer("Kept", "Which weights are kept?", str(kept), kept),
    )


def _problem(report: ReportContents) -> str:
    if report.verdict == "fluctuating":
        how = {"mild": "somewhat ", "strong": "much "}.get(report.severity or "", "")
        problems = [f"The loss moves {how}more than in a healthy run."]
    else:
        words = _PROBLEMS.get(report.verdict)
        if _validates_too_seldom(report):
            words = "There are too few validation results to judge."
        if _are_excluded(report):
            words = "The loss does not fit the other values, so the run cannot be judged."
        problems = [words] if words else []
    if report.generalization == "not_generalizing" and report.verdict == "not_learning":
        problems = []  # the model learns something from the training windows
    if report.generalization is not None:
        problems.append(_POOR_GENERALIZATION[report.generalization])
    if (fault := data_fault(report.causes)) is not None:
        begin = "The" if problems or report.verdict != "normal" else "The curve is calm, but the"
        problems.append(f"{begin} data seem to have a fault: {fault.finding}.")
    if not problems and report.verdict == "normal":
        problems = ["None: the curve is as calm as can be expected."]
    return " ".join(problems) or "See the verdict."


KEEP = "No step is needed: keep these settings."


def _resolution(report: ReportContents) -> str:
    """State how precisely the validation windows determine the accuracy; empty if unknown."""
    accuracy = np.array(report.history.get("val_accuracy", ()), np.float64)
    late = accuracy[len(accuracy) - max(len(accuracy) // 3, 1) :]
    late = late[np.isfinite(late)]
    if not report.n_val or not late.size:
        return ""
    # A. Agresti and B. Coull, 1998: add two right and two wrong windows, so that 100 % is uncertain
    n = report.n_val + 4
    share = (float(np.median(late)) * report.n_val + 2) / n
    points = 196 * math.sqrt(max(share * (1 - share), 0.0) / n)
    windows = plural(report.n_val, "validation window")
    return (
        f"The accuracy on {windows} is known to +-{points:.1f} points (95 %); smaller gains would"
        " not be visible."
    )


def unquoted_texts(report: ReportContents, answers: Sequence[Answer]) -> list[str]:
    """Return the texts of the statements that no answer quotes."""
    quoted = [answer.statement for answer in answers]
    return [str(statement) for statement in report.statements if statement not in quoted]


def _are_excluded(report: ReportContents) -> bool:
    """Test whether a run is not judged because its loss does not fit the other values."""
    return report.verdict == "too_short_to_tell" and _excludes(report)


def _excludes(report: ReportContents) -> bool:
    kinds = {statement.kind for statement in report.statements}
    return not kinds.isdisjoint(("loss_too_small", "loss_has_penalty"))


def _validates_too_seldom(report: ReportContents) -> bool:
    """Test whether there are enough epochs to judge, but too few with a validation result."""
    kinds = {statement.kind for statement in report.statements}
    is_undecided = report.verdict == "too_short_to_tell"
    return is_undecided and "few_validations" in kinds and "too_short" not in kinds


def _more_epochs(report: ReportContents) -> Statement | str:
    if _are_excluded(report):
        return "Unknown, as long as the loss does not fit the other values."
    if _validates_too_seldom(report):
        return (
            f"Validate more often: {MIN_EPOCHS} results after the initial descent are needed to"
            " judge."
        )
    is_known = report.verdict == "too_short_to_tell" and report.generalization is not None
    if report.verdict in _LONGER and not is_known:
        return _LONGER[report.verdict]
    if report.generalization == "overfitting":
        return (
            "No. The network has been getting worse on the validation windows by more than chance"
            " explains."
        )
    if report.verdict == "fluctuating":
        trends = of_topic(report.statements, "noise")
        return trends[0] if trends else "Whether the noise would fall with more epochs is unknown."
    if trends := of_topic(report.statements, "descent"):
        return trends[0]
    if report.best_epoch is None:
        return "Nothing suggests more or fewer epochs."
    if report.best_epoch > _LATE * report.n_epochs:
        return f"Perhaps: the best epoch, {report.best_epoch}, is among the last."
    return f"Probably not: epoch {report.best_epoch} of {report.n_epochs} was best."


def _kept(report: ReportContents) -> Statement:
    kept = statement_of("kept", epoch=report.best_epoch, n_epochs=report.n_epochs)
    kept = statement_of("kept_unknown") if report.best_epoch is None else kept
    return next(iter(of_topic(report.statements, "kept")), kept)


def describe_open_questions(report: ReportContents) -> list[str]:
    """List the open questions of the report, and ways to settle them."""
    still_open = of_topic(report.statements, "open")
    if report.history.get("loss") and "fixed_loss" not in report.evidence:
        still_open.append(statement_of("running_loss"))
    if report.verdict in TROUBLED:
        still_open.append(statement_of("not_tried" if report.causes else "none_sought"))
    return [str(statement) for statement in [*still_open, statement_of("one_run")]]


_WIDTH, _HEIGHT, _CALM_HEIGHT, _INDENT = 80, 24, 18, 10
_TITLE = 60  # longest title of a cause
_EXPLANATION = "explanation"
_ON_PAGE = {_EXPLANATION: "findings", "causes": "causes"}
_WHY = 4  # section with the details of the first findings
_FIRST = ("accuracy", "loss", "generalization", "failure")  # topics of the first findings
_MORE = 'report.to_html("report.html") shows the curves and all numbers.'


class _Block(NamedTuple):
    """Lines that are shown together or not at all."""

    rank: int  # if space is short, blocks with a lower rank have priority
    section: int  # the section of the report that contains the block
    lines: list[str]
    counts_as: str = ""  # attribute of the report under which the block is counted if omitted


def write_report(
    report: ReportContents, command: Command | None = None, page: str | None = None
) -> str:
    """Return the report as text, with changes as Python code or as command lines from `command`.

    `page` is the file or command that shows the page, for readers at a command line.
    """
    head = _wrap("FLUCTUATION REPORT   ", describe_sizes(report), most=2, indent=21)
    steps = list_steps(report, command)
    answers = {part.label: part for part in answer_questions(report, steps)}
    first = answers["Step"].text + " (untested)" * any(step.is_untested for step in steps[:1])
    problem = _Block(0, 0, _wrap("Problem", answers["Problem"].text, most=4))
    best_step = [
        _Block(0, 0, _wrap("Step", first, most=5)),
        *(_Block(2, 0, _code_lines(step)) for step in steps[:1]),
        *(_Block(0, 0, _wrap("Gain", answers[n].text, most=4)) for n in ("Gain",) if n in answers),
    ]
    if report.model is None:
        head += _wrap("Verdict", banner_words(report).upper(), most=2)
        blocks = [problem, *best_step]
    else:
        head += _wrap("Model", describe_accuracy(report.model))
        head += _wrap("Members", describe_members(report.model))
        verdict = f"{banner_words(report).upper()}. {describe_network(report)}"
        curve = _Block(0, 0, _wrap("LSTM", verdict))
        blocks = [*best_step, curve, problem]
    blocks += [
        *_statement_blocks(report, answers.values()),
        *_step_blocks(report, steps[1:]),
        *_cause_blocks(report.causes),
    ]
    for part in (answers["Longer?"], answers["Kept"]):
        counts_as = _EXPLANATION if part.statement else ""
        blocks.append(_Block(6, 5, _wrap(part.label, part.text), counts_as))
    is_fine = report.verdict == "normal" and report.generalization is None
    is_fine |= report.network_is_minor
    height = _CALM_HEIGHT if is_fine and not report.causes else _HEIGHT
    shown, left_out = _choose(blocks, height - len(head) - 1)
    notes = []
    for name in dict.fromkeys(left_out):
        where = f"in report.{name}" if page is None else f"{_ON_PAGE[name]} on the page"
        notes.append(f"{left_out.count(name)} more {where}")
    shown += [_Block(0, 9, _wrap("", f"... {'; '.join(notes)}"))] if notes else []
    why = next((block for block in shown if block.section == _WHY and block.lines), None)
    if why is not None:
        why.lines[0] = "Why".ljust(_INDENT) + why.lines[0][_INDENT:]
    lines = [line for block in sorted(shown, key=lambda b: b.section) for line in block.lines]
    more = _MORE if page is None else f"{page} shows the curves and all numbers."
    return printable("\n".join([*head, *lines, *_wrap("More", more)]), "\n")


def _choose(blocks: Sequence[_Block], room: int) -> tuple[list[_Block], list[str]]:
    """Choose the blocks that fit, by rank; also return `counts_as` of the omitted blocks."""
    if sum(len(block.lines) for block in blocks) > room:
        room -= 1  # reserve the line that counts the omitted blocks
    shown, left_out = [], []
    for block in sorted(blocks, key=lambda b: b.rank):
        # if a cause was left out, later causes would mislead
        is_out_of_turn = block.counts_as == "causes" and "causes" in left_out
        if len(block.lines) <= room and not is_out_of_turn:
            shown.append(block)
            room -= len(block.lines)
        elif block.counts_as:
            left_out.append(block.counts_as)
    order = {id(block): place for place, block in enumerate(blocks)}
    return sorted(shown, key=lambda block: order[id(block)]), left_out


def _statement_blocks(report: ReportContents, answers: Iterable[Answer]) -> list[_Block]:
    quoted = [answer.statement for answer in answers]
    statements = [statement for statement in report.statements if statement not in quoted]
    first = of_topic(statements, *_FIRST)[:3] or statements[:1]
    first += of_topic(report.statements, "unit", "recovery")
    labels = ["Seen"] + [""] * len(first)
    blocks = [
        _Block(2, 1, _wrap(label, str(statement)), _EXPLANATION)
        for label, statement in zip(labels, first, strict=False)
    ]
    return blocks + [
        _Block(8, _WHY, _wrap("", str(statement)), _EXPLANATION)
        for statement in statements
        if statement not in first
    ]


def _step_blocks(report: ReportContents, steps: Sequence[NextStep]) -> list[_Block]:
    blocks = []
    for number, step in enumerate(steps):
        mark = " (untested)" * step.is_untested
        lines = _wrap("" if number else "Then", f"{step.text}{mark}")
        blocks.append(_Block(3, 3, [*lines, *_code_lines(step)]))
    return blocks


def _code_lines(step: NextStep) -> list[str]:
    """Return the command, or Python code, in lines that can be pasted."""
    code, is_command = [step.command], bool(step.command)
    if not is_command:  # put a call on one line
        call, end, following = step.code.partition(",\n)")
        one_line = " ".join(f"{call})".split()).replace("( ", "(")
        code = [one_line, *following.split("\n")] if end else []
        code = [part for part in code or step.code.split("\n") if part and part[0] != "#"]
    lines = []
    for part in code:  # backslashes let a command be pasted with its line breaks
        width = _WIDTH - 2 * is_command  # the paths of a command stay whole
        typed = _wrap("", part, indent=_INDENT + 3, hang=4, width=width, whole=is_command)
        lines += [f"{line} \\" for line in typed[:-1]] + typed[-1:] if is_command else typed
    return lines


def _cause_blocks(causes: Iterable[Cause]) -> list[_Block]:
    blocks: list[_Block] = []
    rank = 0
    for cause in causes:
        is_unknown, is_first = cause.name == UNKNOWN, not blocks
        if is_unknown and blocks:
            continue  # an unknown cause matters only if it comes first
        rank += not is_unknown
        line = " " * _INDENT + "unclear" if is_unknown else _headline(rank, cause)
        if is_first:
            line = ("Cause" if is_unknown else "Suspected").ljust(_INDENT) + line[_INDENT:]
        blocks.append(_Block(1 if is_first else 4 if rank < 5 else 7, 2, [line], "causes"))
        if is_first and not is_unknown and cause.evidence.split():
            blocks.append(_Block(4, 2, _wrap("", cause.evidence, indent=_INDENT + 2)))
    return blocks


def _headline(rank: int, cause: Cause) -> str:
    title = textwrap.shorten(printable(cause.title), _TITLE, placeholder=" ...") or "?"
    return f"{rank:>{_INDENT + 1}} {title}"


def _wrap(
    label: str,
    text: str,
    most: int | None = None,
    indent: int = _INDENT,
    hang: int = 0,
    width: int = _WIDTH,
    whole: bool = False,
) -> list[str]:
    lines = textwrap.wrap(
        # so that no line begins with a percent sign
        printable(" ".join(text.split())).replace(" %", "\N{NO-BREAK SPACE}%"),
        width,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * (indent + hang),
        max_lines=most,
        placeholder=" ...",
        break_on_hyphens=not whole,
        break_long_words=not whole,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
