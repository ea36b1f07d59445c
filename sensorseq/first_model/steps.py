"""The steps from recordings to a first model: inspect, choose, prepare, train, evaluate."""

import hashlib
import os
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sensorseq.errors import ArgumentError, RecordingError, warn_caller
from sensorseq.estimator import SensorLSTMClassifier, load_estimator
from sensorseq.evaluation.baselines import BASELINES
from sensorseq.evaluation.evaluate import Comparison, evaluate_test
from sensorseq.evaluation.inspect import inspect_recordings
from sensorseq.first_model.folder import RunFolder
from sensorseq.first_model.lengths import (
    LengthChoice,
    candidate_lengths,
    check_enough_windows,
    choose_length,
)
from sensorseq.first_model.questions import (
    as_command,
    ask,
    question_of_sensors,
    questions_of_data,
    questions_of_form,
)
from sensorseq.first_model.run_page import count_groups, make_first_page, suspicious_labels
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.io.atomic import write_whole
from sensorseq.io.prepared import read_windows, refuse_prepared
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.prepare import prepare
from sensorseq.prepare.summary import PreparedSummary
from sensorseq.preprocessing.options import OPTIONS, READING_OPTIONS
from sensorseq.preprocessing.preparation import versions
from sensorseq.readers import digest_source, find_recordings
from sensorseq.training.engine import was_interrupted_since
from sensorseq.windows import WindowSet

Progress = Callable[[str, int, int], None]
_MANY_SAMPLES = 1e7  # with more samples in all channels, some baselines would take minutes
_MOST_ODD = 3
_MOST_FOLDS = 5


@dataclass(frozen=True, eq=False)
class FirstModel:
    """The result of `run`; the files are in `folder`."""

    folder: Path
    length: LengthChoice
    decisions: tuple[str, ...]
    summary: PreparedSummary
    model: SensorLSTMClassifier
    comparison: Comparison
    n_folds: int  # with more folds, a class would be missing from some
    irregularities: tuple[str, ...] = ()  # the most important ones in the recordings
    is_new: bool = True  # False if the model was there and nothing had changed

    @property
    def on_every_recording(self) -> str:
        """The command that trains and tests on folds, so that every recording is tested."""
        files = shlex.join(str(self.folder / name) for name in ("model.safetensors", "windows.h5"))
        return f"sensorseq evaluate {files} --folds {self.n_folds}"

    @property
    def on_the_robot(self) -> str:
        """The command that classifies samples on the robot, as `YOUR_PROGRAM` prints them."""
        return f"YOUR_PROGRAM | sensorseq stream {self.folder / 'model.safetensors'}"


@takes_options
def run(
    logs: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    window_s: float | None = None,
    progress: Progress | None = None,
) -> FirstModel:
    """Inspect recordings, prepare windows, train and evaluate a model, and write a page about it.

    The functions behind the commands `inspect`, `prepare`, `train` and `evaluate` do the work;
    ``commands.txt`` lists the commands that give the same model. If `output` was made by the same
    call, only steps whose inputs changed are done again.

    Parameters
    ----------
    logs : path-like
        A folder with a folder for each label, a folder with a manifest, a manifest, or one file.
    output : path-like
        The folder for ``windows.h5``, ``model.safetensors``, ``page.html`` and ``commands.txt``; it
        must be new, empty or from the same call.
    options : ReadOptions, optional
        Which recordings to read, and how to read them.
    window_s : float, optional
        Length of a window in seconds. By default, a few lengths are compared on folds of recordings
        outside the test part, and a longer window must gain more than one standard error.
    progress : callable, optional
        Called with the stage, the number of finished items and the number of all items.

    Raises
    ------
    OpenQuestionsError
        Before anything long begins, if the recordings leave questions open.
    InputError
        If the recordings cannot be used, or `output` belongs to another run.

    Warns
    -----
    UserWarning
        Before anything long begins, if recordings stand out from the others of their class.
    """
    reading, source = as_options(options), os.fspath(logs)
    given = {name: value for name in OPTIONS if (value := getattr(reading, name, None)) is not None}
    given |= {} if window_s is None else {"window_s": float(window_s)}
    if reading != reading.only(*(name for name in READING_OPTIONS if OPTIONS[name].help)):
        raise ArgumentError(
            f"options={reading!r}: run takes only the options of the command `run`; for units,"
            " salvage and scratch, use `prepare`."
        )
    say = progress or (lambda stage, done, total: None)
    refuse_prepared(Path(source), "give the recordings it was made from.")
    folder = RunFolder(output, {"logs": str(Path(source).resolve()), **given})
    with folder.locked():
        questions = questions_of_form(source, reading)
        for question in questions:  # go on with the likely answers, so that all questions are asked
            if "sample_rate_hz" in question.answer:
                ask(questions, source, given, str(output))
            reading = replace(reading, **question.answer)
        described, facts = _inspect(source, reading, say)
        if joined := [*question_of_sensors(facts, reading)]:
            questions += joined
            reading = replace(reading, **joined[0].answer)
            described, facts = _inspect(source, reading, say)
        if not facts:
            raise RecordingError(next(r["error"] for r in described["recordings"] if "error" in r))
        questions += questions_of_data(source, reading, described, facts)
        ask(questions, source, given, str(output))
        lengths = [window_s] if window_s else candidate_lengths(facts, reading.sample_rate_hz)
        check_enough_windows(facts, lengths[0])
        for odd in described["odd"]:
            if odd["kind"] == "stands_out":
                warn_caller(f"{odd['text']} {odd['advice']}")
        folder.begin(_digest(source, reading))
        return _make(folder, source, given, lengths, described, facts, say)


def _inspect(
    source: str, reading: ReadOptions, say: Progress
) -> tuple[dict[str, Any], list[RecordingFacts]]:
    return inspect_recordings(
        source,
        reading,
        read_logs=True,
        progress=lambda done, total: say("reading", done, total),
    )


def _digest(source: str, reading: ReadOptions) -> str:
    """Return a digest of all files and of the version."""
    digest = hashlib.sha256(repr(versions()).encode())
    for recording in find_recordings(source, reading):
        files = [file["sha256"] for file in digest_source(recording)]
        digest.update(repr((recording.recording_id, recording.label, files)).encode())
    return digest.hexdigest()


def _prepare(
    source: str, given: Mapping[str, Any], window_s: float, output: Path, say: Progress
) -> PreparedSummary:
    options = {**given, "window_s": window_s, "hop_s": window_s / 2}
    resume = not output.exists()
    return prepare(
        source,
        output,
        resume=resume,
        progress=lambda stage, done, total: say(f"windows of {window_s:g} s", done, total),
        **options,
    )


def _choose(
    folder: RunFolder,
    source: str,
    given: Mapping[str, Any],
    lengths: Sequence[float],
    say: Progress,
) -> LengthChoice:
    if "length" in folder.state:
        return LengthChoice(**folder.state["length"])
    if len(lengths) == 1:
        why = "given" if "window_s" in given else "the only length that suits the recordings"
        choice = LengthChoice(lengths[0], why)
    else:
        folder.lengths.mkdir(exist_ok=True)
        files = {length: folder.lengths / f"{length:g}s.h5" for length in lengths}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the final preparation repeats them
            for length, file in files.items():
                _prepare(source, given, length, file, say)
        choice = choose_length(files, lambda done, total: say("comparing lengths", done, total))
    folder.save(length=choice.to_dict())
    return choice


def _make(
    folder: RunFolder,
    source: str,
    given: Mapping[str, Any],
    lengths: Sequence[float],
    described: Mapping[str, Any],
    facts: Sequence[RecordingFacts],
    say: Progress,
) -> FirstModel:
    is_new = not folder.is_trained
    choice = _choose(folder, source, given, lengths, say)
    summary = _prepare(source, given, choice.window_s, folder.windows, say)
    shutil.rmtree(folder.lengths, ignore_errors=True)
    windows = read_windows(folder.windows)
    model, suspects = _train(folder, windows, say)
    say("evaluating", 0, 0)
    baselines = BASELINES if windows.X.size <= _MANY_SAMPLES else ("majority", "ridge")
    comparison = evaluate_test(model, windows, baselines=baselines)
    decisions = tuple(describe_decisions(source, given, choice, summary))
    others = [odd for odd in described["odd"] if odd["kind"] != "stands_out"]  # warned of these
    odd = tuple(f"{each['text']} {each['advice']}" for each in others[:_MOST_ODD])
    result = FirstModel(
        folder.path,
        choice,
        decisions,
        summary,
        model,
        comparison,
        min(_MOST_FOLDS, *count_groups(windows).values()),
        odd,
        is_new,
    )
    page = make_first_page(
        model,
        windows,
        comparison,
        described,
        facts,
        title=Path(source).resolve().name,
        decisions=decisions,
        suspects=suspects,
        on_every_recording=result.on_every_recording,
        on_the_robot=result.on_the_robot,
        folder=folder.path,
    )
    commands = "\n".join(_commands(folder, source, given, choice)) + "\n"
    write_whole(folder.commands, commands.encode())
    write_whole(folder.page, page.encode())
    return result


def _train(
    folder: RunFolder, windows: WindowSet, say: Progress
) -> tuple[SensorLSTMClassifier, list[str]]:
    if folder.is_trained:
        loaded = load_estimator(folder.model, device="auto")
        assert isinstance(loaded, SensorLSTMClassifier)
        return loaded, folder.state["suspects"]
    say("training", 0, 0)
    started_s = time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was interrupted")  # an incomplete model is not kept
        # rows of windows in memory are known, so that their labels can be checked
        is_large = windows.X.nbytes > buffer_bytes()
        model = SensorLSTMClassifier(random_state=0).fit(folder.windows if is_large else windows)
    if was_interrupted_since(started_s):
        raise KeyboardInterrupt
    model.save(folder.model)
    suspects = suspicious_labels(model, windows)
    folder.save(suspects=suspects)
    return model, suspects


def describe_decisions(
    source: str, given: Mapping[str, Any], choice: LengthChoice, summary: PreparedSummary
) -> list[str]:
    """Return a sentence for each decision, with its reason."""
    lines = [f"Windows of {choice.window_s:g} s: {choice.reason}."]
    if choice.tried:
        tried = ", ".join(f"{w:g} s {100 * accuracy:.1f} %" for w, accuracy, _ in choice.tried)
        lines.append(
            f"Extra trees on these groups, each counted once: {tried}. These figures only"
            " compare lengths."
        )
    lines.append(f"A window begins every {choice.window_s / 2:g} s, so that two overlap by half.")
    lines.append(f"{summary.sample_rate_hz:.4g} Hz: {summary.sample_rate_from}.")
    lines.append(f"Channels: {', '.join(summary.channels)}.")
    lines.append(
        "Whole groups of recordings are in the training, validation or test part; the test part"
        " was opened once."
    )
    if given:
        lines.append(f"Called as: {as_command('run', source, given)}")
    return [*lines, *filter(None, (summary.simultaneous, summary.subjects))]


def _commands(
    folder: RunFolder, source: str, given: Mapping[str, Any], choice: LengthChoice
) -> list[str]:
    options = {**given, "window_s": choice.window_s, "hop_s": choice.window_s / 2}
    reading = {name: value for name, value in given.items() if name != "window_s"}
    windows, model = (shlex.quote(str(path)) for path in (folder.windows, folder.model))
    inspect = as_command("inspect", source, reading)
    return [
        "# The same in single steps:",
        inspect,
        f"{as_command('prepare', source, options)} -o {windows}",
        f"sensorseq train {windows} -o {model}",
        f"sensorseq evaluate {model} {windows}",
    ]
