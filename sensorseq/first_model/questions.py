"""Questions that must be answered before recordings can be prepared, with likely answers."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import takewhile
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, OpenQuestionsError, RecordingError
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.messages import fill
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.options import as_words
from sensorseq.readers import RecordingSource, find_recordings, read_source
from sensorseq.text import listed

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
_PAIRS = (
    "{sensor}_{recording}.*",
    "{recording}_{sensor}.*",
    "{sensor}-{recording}.*",
    "{recording}-{sensor}.*",
    "{recording}/{sensor}.*",
)
_MOST_SENSORS = 6
_USUAL = 0.8  # fraction of the recordings with all sensors, and of the time that sensors share
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
            return [*questions, *_question_of_sensors(logs, sources, changed)]
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


def _question_of_sensors(
    logs: str, sources: Sequence[RecordingSource], options: ReadOptions
) -> Iterator[Question]:
    """Yield the question whether files belong to one recording, if their names suggest it.

    Their channels and times are the second source: the channels must differ, and the times agree.
    """
    if options.pair is not None or options.files is not None:
        return
    for pair in _PAIRS:
        try:
            joined = find_recordings(logs, replace(options, pair=pair))
        except (RecordingError, ArgumentError):
            continue
        whole = [source for source in joined if source.label and not source.missing_sensors]
        if len(whole) < _USUAL * len(joined) or not 1 < len(whole[0].sensors) <= _MOST_SENSORS:
            continue
        files = {source.paths[0]: source for source in sources}
        parts = [[files[path] for path in source.paths] for source in whole[:_FIRST]]
        if all(_is_one_recording(of_one, options) for of_one in parts):
            text = (
                f"join the files of {len(whole[0].sensors)} sensors ({listed(whole[0].sensors)})?"
                f" {len(whole)} recordings have them all; their channels differ, and their times"
                " agree. To use one sensor, choose its `files`."
            )
            yield Question(text, {"pair": pair})
            return


def _is_one_recording(files: Sequence[RecordingSource], options: ReadOptions) -> bool:
    """Whether files have different channels and cover about the same time."""
    try:
        parts = [read_source(file, options) for file in files]
    except RecordingError:
        return False
    names = [name for part in parts for name in part.channel_names]
    starts, ends = np.array([part.timestamps_s[[0, -1]] for part in parts]).T
    is_shared = ends.min() - starts.max() > _USUAL * (ends.max() - starts.min())
    return bool(is_shared) and len(set(names)) == len(names)


def questions_of_data(
    options: ReadOptions, described: Mapping[str, Any], facts: Sequence[RecordingFacts]
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
            n = len(odd["answer"].get("exclude", ()))
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
    if options.channels is None and 0 < len(still) < len(names):
        text = f"leave out channels that never change within a recording ({listed(still)})?"
        yield Question(text, {"channels": [name for name in names if name not in still]})
    if all(fact.label is None for fact in facts):
        columns = [name for row in rows for name in row.get("dropped_columns", ())]
        columns += [name for name in facts[0].channels if name.lower() in _LABELS]
        if not columns or options.label_column is not None:
            raise RecordingError(
                "the recordings have no labels. Put the files of each class into a folder with its"
                " name, list path and label in a manifest.csv, or name the `label_column`."
            )
        text = f"which column has the label of each sample? {listed(dict.fromkeys(columns))} may."
        yield Question(text, {"label_column": columns[0]})
    else:
        try:
            yield from _questions_of_groups(facts)
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


def _questions_of_groups(facts: Sequence[RecordingFacts]) -> Iterator[Question]:
    groups: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        if fact.label is not None:
            groups[fact.label].add(fact.group)
    short = {label: len(names) for label, names in groups.items() if len(names) < _PARTS}
    few = listed([f"{label} (has {count})" for label, count in short.items()])
    if len(groups) < 2:
        raise RecordingError(
            f"all recordings have the label {listed(groups)}; a classifier needs recordings of at"
            " least two classes."
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
