"""Questions that must be answered before recordings can be prepared, with likely answers."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.base.text import listed
from sensorseq.errors import OpenQuestionsError, RecordingError
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.messages import fill
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.options import as_words
from sensorseq.preprocessing.simultaneous import Covered, sets_by_name
from sensorseq.readers import RecordingSource, find_recordings, read_source

_FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"no_header": True},
    {"delimiter": ";"},
    {"delimiter": "tab"},
    {"delimiter": ";", "decimal": ","},
)
_TIMES = {"1": "first column", "-1": "last column"}
_LABELS = ("label", "class", "target", "terrain", "surface", "activity", "state")
_FIRST = 3  # number of recordings that are tried
_MOST_LABELED = 30  # number of recordings in which columns of labels are looked for
_MOST_CLASSES = 50
_LONG = 50  # mean number of samples for which labels stay the same
_SHARED = 0.8  # minimum fraction of the time of a recording that its sensors share
# Findings of `inspect` that preparation refuses, or that put training samples into the test part.
_ASKED = {
    "unit": "leave these recordings out?",
    "time_unit": (
        "{is_one:in which UNIT (s, ms, us or ns) are the timestamps|leave these recordings out}?"
    ),
    "copies": "leave out {n:#recording} that {n:shares|share} samples with others?",
}
_PARTS = 3  # each class needs a group in the training, the validation and the test part


@dataclass(frozen=True)
class Question:
    """An open question, and the options that answer it as the data suggest."""

    text: str
    answer: Mapping[str, Any]


def questions_of_form(logs: str, options: ReadOptions) -> list[Question]:
    """Return the questions about the format and the time that the first recording raises."""
    sources = find_recordings(logs, options)
    if sources[0].is_log or sources[0].has_arrays:
        return []
    for form in _FORMS:
        changed = replace(options, **form)
        questions = []
        if form:
            try:  # manifests and tables of recordings may differ, or may not be in this form
                sources = find_recordings(logs, changed)
            except RecordingError:
                continue
            named = " and ".join(f"`{name}`" for name in form)
            text = f"how are the files written? They can be read with {named}."
            questions.append(Question(text, form))
        if _reads(sources, changed):
            return questions
        if options.time_column is not None or options.sample_rate_hz is not None:
            continue
        for position, words in _TIMES.items():
            if _reads(sources, replace(changed, time_column=position)):
                text = f"which column has the timestamps? The {words} increases steadily."
                return [*questions, Question(text, {"time_column": position})]
        if _reads(sources, replace(changed, sample_rate_hz=1.0)):
            text = "how many rows per second (HZ) do the files have? No column has timestamps."
            return [*questions, Question(text, {"sample_rate_hz": "HZ"})]
    return []


def _reads(sources: Sequence[RecordingSource], options: ReadOptions) -> bool:
    """Whether one of the first recordings can be read with these options."""
    for source in sources[:_FIRST]:
        with suppress(RecordingError):
            return read_source(source, options).n_samples > 1
    return False


def question_of_sensors(
    facts: Sequence[RecordingFacts], options: ReadOptions
) -> Iterator[Question]:
    """Yield the question whether files are the sensors of one recording.

    Their names and times must agree, and their channels must differ.
    """
    of_id = {fact.recording_id: fact for fact in facts}
    is_labeled = all(fact.label is not None for fact in facts)  # by folder, or in a manifest
    if not facts or not is_labeled or len(of_id) < len(facts):
        return
    if options.pair is not None or options.label_column is not None:
        return
    covered = [
        Covered(f.recording_id, f.group, (f.label,), f.start_s, f.start_s + f.duration_s, 0.0)
        for f in facts
    ]
    for found in sets_by_name(covered):
        if found.pair is not None and all(
            _fit_together([of_id[name] for name in names]) for names in found.groups.values()
        ):
            first = listed(next(iter(found.groups.values())))
            text = (
                f"join the files of several sensors, such as {first}? Their channels differ, and"
                " they cover the same time. To use one sensor, choose its `files`."
            )
            yield Question(text, {"pair": found.pair})
            return


def _fit_together(files: Sequence[RecordingFacts]) -> bool:
    """Whether files have different channels and cover about the same time."""
    channels = [channel for file in files for channel in file.channels]
    starts, ends = zip(*((f.start_s, f.start_s + f.duration_s) for f in files), strict=True)
    is_shared = min(ends) - max(starts) > _SHARED * (max(ends) - min(starts))
    return is_shared and len(set(channels)) == len(channels)


def _other_folder(logs: str) -> str:
    """Return "Did you mean ...?" if the folder below or above has a folder for each class."""
    root, near = Path(logs).absolute(), None
    with suppress(OSError):  # a folder that nobody asked for may be unreadable
        below, kinds = _folders(root), _kinds(root)
        if len(below) == 1 and len(_folders(below[0])) > 1:
            near = below[0]
        elif not below and all(kinds & _kinds(folder) for folder in _folders(root.parent)):
            near = root.parent
    n_classes = len(_folders(near)) if near else 0
    return f" Did you mean {near}? It has {n_classes} folders." if n_classes > 1 else ""


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _kinds(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir() if path.is_file()} - {""}


def questions_of_data(
    logs: str, options: ReadOptions, described: Mapping[str, Any], facts: Sequence[RecordingFacts]
) -> Iterator[Question]:
    """Yield the questions about labels, rates, channels and recordings that cannot be used."""
    rows = described["recordings"]
    bad = [row["recording_id"] for row in rows if "error" in row]
    if bad:
        first = next(row["error"] for row in rows if "error" in row)
        text = f"{len(bad)} of {len(rows)} recordings cannot be read; leave them out? {first}"
        yield Question(text, {"exclude": bad})
    for odd in described["odd"]:
        if odd["kind"] in _ASKED:
            out = odd["answer"].get("exclude", ())
            n = len(out)
            facts = [fact for fact in facts if fact.recording_id not in out] or facts
            text = fill(_ASKED[odd["kind"]], {"n": n, "is_one": not n})
            yield Question(f"{text} {odd['text']}", odd["answer"])
    sets = Counter(tuple(fact.channels) for fact in facts).most_common()
    if len(sets) > 1:
        shown = "; ".join(f"{listed(names, 6)} in {n} recordings" for names, n in sets[:3])
        text = f"which files should the model use? Their channels differ: {shown}."
        others = [fact.recording_id for fact in facts if tuple(fact.channels) != sets[0][0]]
        facts = [fact for fact in facts if tuple(fact.channels) == sets[0][0]]
        pattern = _pattern([fact.recording_id for fact in facts])
        is_common = any(fnmatch(name.rpartition("/")[2], pattern) for name in others)
        yield Question(text, {"exclude": others} if is_common else {"files": [pattern]})
    names = list(facts[0].channels)
    still = [n for n in names if all(f.channels[n].is_constant for f in facts if n in f.channels)]
    is_unlabeled = all(fact.label is None for fact in facts)
    of_labels = [name for name in names if is_unlabeled and name.lower() in _LABELS]
    still = [name for name in still if name not in of_labels]
    if options.channels is None and 0 < len(still) < len(names):
        text = f"leave out channels that never change within a recording ({listed(still)})?"
        kept = [name for name in names if name not in (*still, *of_labels)]
        yield Question(text, {"channels": kept})
    if options.channels is None and options.label_column is None:
        _check_no_channel_is_a_label(facts, [name for name in names if name not in still])
    if is_unlabeled:
        columns = [] if options.label_column else _label_columns(logs, options, rows, names)
        if not columns:
            raise RecordingError(
                "the recordings have no labels. Put the files of each class into a folder with its"
                " name, list path and label in a manifest.csv, or name the `label_column`."
                + _other_folder(logs)
            )
        text = f"which column has the label of each sample? {listed(columns)} may."
        yield Question(text, {"label_column": columns[0]})
    else:
        try:
            yield from _questions_of_groups(logs, facts)
        except RecordingError as error:
            if not bad:
                raise
            raise RecordingError(
                f"{len(bad)} of {len(rows)} recordings cannot be read. The first: {first} Without"
                f" these recordings, {error}"
            ) from error
    rates = [fact.rate_hz for fact in facts if fact.rate_hz > 0]
    if rates and max(rates) > 1.1 * min(rates) and options.sample_rate_hz is None:
        low = _rounded(min(rates))
        most = {f"{_rounded(rate):g} Hz": None for rate in sorted(rates)}
        text = (
            f"at which rate should the windows be? The recordings have {listed(most, 4)};"
            " the lowest rate keeps only what all of them contain."
        )
        yield Question(text, {"sample_rate_hz": low})


def _label_columns(
    logs: str, options: ReadOptions, rows: Sequence[Mapping[str, Any]], channels: Sequence[str]
) -> list[str]:
    """Return columns that may be labels: few values, which several recordings or samples share."""
    columns = [name for name in channels if name.lower() in _LABELS]
    columns += [name for row in rows for name in row.get("dropped_columns", ())]
    columns.sort(key=lambda name: name.lower() not in _LABELS)
    sources = find_recordings(logs, options)
    n_read = min(len(sources), _MOST_LABELED)
    drawn = np.random.default_rng(0).choice(len(sources), n_read, replace=False)
    sources = [sources[at] for at in np.sort(drawn).tolist()]
    found = []
    for name in dict.fromkeys(columns):
        labels: list[tuple[str, ...]] = []
        for source in sources:
            with suppress(RecordingError):
                labels.append(read_source(source, replace(options, label_column=name)).labels)
        n_classes = len(set().union(*labels))
        is_shared = n_classes <= len(labels) / 2 or any(len(of_one) > 1 for of_one in labels)
        if 1 < n_classes <= _MOST_CLASSES and is_shared:
            found.append(name)
    return found


def _check_no_channel_is_a_label(facts: Sequence[RecordingFacts], channels: Sequence[str]) -> None:
    """Raise an error if a channel labels the samples, although each folder is a class.

    Such a channel has at least three different pairs of whole numbers as limits, the same in all
    folders, and keeps its values for long. A switch has only two values.
    """
    for name in channels:
        limits: dict[str | None, set[tuple[float, float]]] = defaultdict(set)
        for fact in facts:
            if (c := fact.channels.get(name)) is None or c.n_known <= _LONG * c.n_stretches:
                break
            limits[fact.label].add((c.low.value, c.high.value))
        else:
            first, *others = limits.values()
            are_whole = all(value == int(value) for pair in first for value in pair)
            is_switch = len({value for pair in first for value in pair}) < _PARTS
            is_same = len(first) >= _PARTS and others and all(each == first for each in others)
            if is_same and are_whole and not is_switch:
                raise RecordingError(
                    f"channel {name!r} looks like the label of the samples: it has whole numbers in"
                    " long intervals, the same in each folder. If it is, put the files of all"
                    f" folders into one folder, and use label_column={name!r}; if not, list all"
                    " channels to use in `channels`."
                )


def _questions_of_groups(logs: str, facts: Sequence[RecordingFacts]) -> Iterator[Question]:
    groups: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        if fact.label is not None:
            groups[fact.label].add(fact.group)
    short = {label: len(names) for label, names in groups.items() if len(names) < _PARTS}
    few = listed([f"{label} (has {count})" for label, count in short.items()])
    if len(groups) < 2:
        raise RecordingError(
            f"all recordings have the label {listed(groups)}; a classifier needs recordings of at"
            f" least two classes.{_other_folder(logs)}"
        )
    if len(groups) - len(short) < 2:
        raise RecordingError(
            f"class {few} has too few recordings (or groups of recordings): each class"
            f" needs at least {_PARTS}, for training, validation and test. Record more."
        )
    if short:
        text = f"leave out class {few}? Each class needs at least {_PARTS} recordings or groups."
        yield Question(text, {"exclude": [*short]})


def _pattern(ids: Sequence[str]) -> str:
    """Return a pattern of names that these recordings have in common."""
    names = [name.rpartition("/")[2] for name in ids]
    letters = takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False))
    return "".join(each[0] for each in letters) + "*"


def _rounded(rate_hz: float) -> float:
    return float(f"{rate_hz:.3g}")


def as_command(name: str, logs: str, given: Mapping[str, Any]) -> str:
    """Return a command line with these options."""
    return shlex.join(["sensorseq", name, logs, *as_words(given)])


def ask(questions: Sequence[Question], logs: str, given: Mapping[str, Any], output: str) -> None:
    """Raise an error with all open questions and the command that answers them."""
    if not questions:
        return
    answered = dict(given)
    for question in questions:
        for name, value in question.answer.items():
            if name == "exclude":
                value = [*dict.fromkeys([*(answered.get(name) or ()), *value])]
            answered[name] = value
    count = "one question is" if len(questions) == 1 else f"{len(questions)} questions are"
    lines = [f"{count} open:"]
    lines += [f"  {number}. {question.text}" for number, question in enumerate(questions, 1)]
    command = f"{as_command('run', logs, answered)} -o {shlex.quote(output)}"
    raise OpenQuestionsError(
        "\n".join([*lines, "This command gives the likely answers:", f"  {command}"])
    )
