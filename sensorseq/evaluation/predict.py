"""Predict raw recordings with the same preparation steps as the training windows."""

import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.layout import table, wrapped
from sensorseq.base.text import listed, percent, plain, plural
from sensorseq.errors import ArgumentError, SensorseqError, WindowError, printable
from sensorseq.evaluation.raw_recordings import (
    find_sources,
    plans_of,
    recordings_of_sensors,
)
from sensorseq.inspection.facts import ChannelFacts, RecordingFacts, measure
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.prediction.decisions import recording_prediction
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.options import READ_AS_IN_TRAINING, PreparationOptions
from sensorseq.readers import RecordingSource, digest_source
from sensorseq.readers.annotations import as_label_studio
from sensorseq.readers.find import check_form_is_used
from sensorseq.readers.suffixes import stem_of
from sensorseq.recording import LabelSpan, Recording
from sensorseq.sensor_windows import UNNAMED, AnyWindows, have_numbers, sets_of
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import Smooth
from sensorseq.sequence.timeline import Span, spans_as_csv
from sensorseq.stamps.read import clock_of, date_of, describe_clock

if TYPE_CHECKING:  # so that torch is not imported
    from markupsafe import Markup

    from sensorseq.estimator import AnyClassifier

_SLOW = 0.9  # below this fraction of the model's rate, recordings lack frequencies seen in training
_MOST_CHANNELS = 8  # maximum number of channels that a page draws


class Agreement(NamedTuple):
    """How many windows have the class that the recording's labels give to their middle."""

    n_right: int
    n_right_alone: int  # without smoothing
    n_windows: int  # windows with a label
    unknown: Set[str]  # labels that are not classes of the model


@dataclass(frozen=True, eq=False)
class RecordingPrediction:
    """A model's prediction for one recording with n windows; the model has K classes.

    `probability` (n, K) has a column for each of `classes`. `start_s` (n,) is the start of each
    window on the recording's clock, and `begins_s` is the start of the recording on this clock.
    `date` is the date and time of the recording's start if the timestamps include a date. If `seen`
    is True, the recording was in the training data, so the prediction does not test the model.
    `outside` marks windows unlike the training windows; it is None if the model does not have the
    ranges of its training windows. Read the caveats in `notes` before trusting the labels.
    """

    recording_id: str
    paths: tuple[Path, ...]
    classes: NDArray[Any]
    start_s: NDArray[np.float64]
    probability: NDArray[np.float64]
    seen: bool
    notes: tuple[str, ...] = ()
    outside: OutsideWindows | None = None
    in_table: bool = False  # True if the recording is from a table of several recordings
    begins_s: float = 0.0
    date: str = ""
    timeline: Timeline | None = None  # times are relative to the start of the recording
    facts: RecordingFacts | None = None  # facts about its channels, for plots
    truth: tuple[LabelSpan, ...] = ()  # labels in the recording itself
    clock: Mapping[str, Any] = field(default_factory=dict)  # facts about its timestamps

    @property
    def label(self) -> Any:
        """The class with the highest mean probability over the windows."""
        return self.classes.tolist()[recording_prediction(self.probability)[1]]

    @property
    def vote(self) -> Any:
        """The majority vote of the windows."""
        return self.classes.tolist()[recording_prediction(self.probability)[0]]

    def agreement(self) -> Agreement | None:
        """Compare the windows with the labels in the recording; None if it has no labels."""
        if self.timeline is None or not self.truth:
            return None
        middles_s = (self.timeline.start_s + self.timeline.end_s) / 2 + self.begins_s
        at = np.searchsorted([span.start_s for span in self.truth], middles_s, "right") - 1
        ends_s = np.array([span.end_s for span in self.truth])
        rows = np.flatnonzero((at >= 0) & (middles_s < ends_s[at]))
        true = np.array([str(self.truth[place].label) for place in at[rows].tolist()], object)
        in_order = self.probability[np.argsort(self.start_s, kind="stable")]
        alone = self.classes[in_order.argmax(axis=1)]
        right, right_alone = (
            int((true == decided[rows].astype(str)).sum())
            for decided in (self.timeline.labels, alone)
        )
        return Agreement(right, right_alone, len(rows), set(true) - set(self.classes.astype(str)))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        names = [str(name) for name in self.classes.tolist()]
        mean = recording_prediction(self.probability)[2]
        return {
            "recording_id": self.recording_id,
            "paths": [str(path) for path in self.paths],
            "label": self.label,
            "vote": self.vote,
            "probability": dict(zip(names, mean.tolist(), strict=True)),
            "n_windows": len(self.start_s),
            "begins_s": self.begins_s,
            "date": self.date or None,
            "n_outside": None if self.outside is None else self.outside.n_outside,
            "seen_in_training": self.seen,
            "notes": list(self.notes),
            "smooth": None if self.timeline is None else self.timeline.smooth,
            "spans": [
                plain({k: v for k, v in span._asdict().items() if k != "recording_id"})
                for span in (() if self.timeline is None else self.timeline.spans)
            ],
            "windows": [
                {
                    "start_s": start_s,
                    "label": self.classes.tolist()[int(np.argmax(row))],
                    "probability": dict(zip(names, row, strict=True)),
                }
                for start_s, row in zip(
                    self.start_s.tolist(), self.probability.tolist(), strict=True
                )
            ],
        }


@takes_options
def predict_recordings(
    model: "TrainedModel | AnyClassifier",
    paths: Sequence[str | os.PathLike[str]],
    options: ReadOptions | None = None,
    *,
    smooth: Smooth = "marginals",
    hop_s: float | None = None,
    with_facts: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[RecordingPrediction]:
    """Prepare raw recordings like the training windows, and predict their classes.

    Parameters
    ----------
    model : a classifier, or the TrainedModel that `load` returns
        A model fitted on a prepared file, or on a WindowSet from `PreparePipeline`.
    paths : sequence of path-like
        Files or folders. If the model uses several sensors, one file of a recording is enough,
        because the files of the other sensors are found.
    options : ReadOptions, optional
        `time_column`, `time_unit`, the format of CSV files, `sample_rate_hz` and `label_column`;
        each defaults to the value used for the training recordings.
    smooth : str or Smoothing, default="marginals"
        How decisions are smoothed over time; see `SensorLSTMClassifier.timeline`.
    hop_s : float, optional
        Seconds between the starts of windows; by default as in training. With a shorter hop, class
        changes are detected sooner.
    with_facts : bool, default=False
        If True, also measure the channels, as `make_drive_page` requires.
    progress : callable, optional
        Called with the number of recordings done and their total.

    Raises
    ------
    ArgumentError
        If `options` has another option.
    InputError
        If the model does not contain the preparation of its windows.
    RecordingError, WindowError
        If a recording cannot be read, lacks a channel or is shorter than a window.
    """
    if not isinstance(model, TrainedModel):
        model = model.model_
    by_name = as_options(options)
    if by_name != by_name.only(*READ_AS_IN_TRAINING):
        raise ArgumentError(
            f"options={by_name!r}: prediction reads recordings as in training; only"
            f" {', '.join(READ_AS_IN_TRAINING)} can be given."
        )
    plans, reading = plans_of(model, hop_s, by_name)
    pipeline, *_ = plans.values()
    sources = [source for path in paths for source in find_sources(model, Path(path), reading)]
    check_form_is_used(sources, by_name)
    smoothing: dict[str, Any] = {"smooth": model.smoothing(smooth)}
    smoothing |= {"hop_s": pipeline.options.hop_s, "class_shares": model.class_shares}
    predictions = []
    for done, source in enumerate(sources):
        if progress is not None:
            progress(done, len(sources))
        seen = any(_is_seen(of_sensor, source) for of_sensor in model.inputs.values())
        recording, windows = _windows(source, plans, reading, model)
        outside = model.outside(windows) if model.has_ranges else None
        start_s, (probability, _) = np.asarray(windows.start_s), model.probabilities(windows)
        begins_s = float(recording.timestamps_s[0])
        timeline = timeline_of(
            probability,
            model.classes,
            start_s - begins_s,
            pipeline.options.window_s,
            **smoothing,
        )
        predictions.append(
            RecordingPrediction(
                source.recording_id,
                source.paths,
                model.classes,
                start_s,
                probability,
                seen,
                (*_notes(windows, outside, model, seen=seen), *_unused(recording, by_name)),
                outside,
                source.rows is not None,
                begins_s,
                date_of(recording.attributes, recording.timestamps_s),
                timeline,
                measure(recording) if with_facts else None,
                recording.label_spans,
                clock_of(recording.attributes),
            )
        )
    if progress is not None:
        progress(len(sources), len(sources))
    return predictions


def table_of_spans(
    predictions: Sequence[RecordingPrediction], *, absolute_time: bool = False
) -> str:
    """Return the spans of all recordings as the text of a CSV table.

    Times are in seconds since the start of each recording or, with `absolute_time`, on the
    recording's clock.
    """

    def placed(prediction: RecordingPrediction, span: Span) -> Span:
        begins_s = prediction.begins_s if absolute_time else 0.0
        start_s, end_s = span.start_s + begins_s, span.end_s + begins_s
        return span._replace(recording_id=prediction.recording_id, start_s=start_s, end_s=end_s)

    return spans_as_csv(
        tuple(
            placed(prediction, span)
            for prediction in predictions
            for span in (() if prediction.timeline is None else prediction.timeline.spans)
        )
    )


def label_studio_tasks(predictions: Sequence[RecordingPrediction]) -> str:
    """Return the spans of all recordings as Label Studio tasks with predictions, in JSON."""
    tasks = []
    for prediction in predictions:
        spans = () if prediction.timeline is None else prediction.timeline.spans
        begins_s, file = prediction.begins_s, prediction.paths[0]
        rows = (
            (s.start_s + begins_s, s.end_s + begins_s, str(s.label), s.probability) for s in spans
        )
        suffix = file.name.removeprefix(stem_of(file))
        path = f"{prediction.recording_id}{suffix}"  # relative to the folder of recordings
        tasks.append(as_label_studio(path, rows, prediction.clock))
    return json.dumps(tasks, indent=1)


def _windows(
    source: RecordingSource,
    plans: Mapping[str, RecordingPlan],
    reading: PreparationOptions,
    model: TrainedModel,
) -> tuple[Recording, AnyWindows]:
    """Return the recording of the sensor that begins first, and the windows of all sensors."""
    listed = " + ".join(str(path) for path in source.paths)
    plan = next(iter(plans.values()))
    try:
        recordings = recordings_of_sensors(source, plans, reading)
        first = min(recordings.values(), key=lambda recording: recording.timestamps_s[0])
        whole = recordings if model.names_sensors else recordings[UNNAMED]
        return first, model.cut(whole, plan.options.hop_s)
    except SensorseqError as error:
        if not model.names_sensors and isinstance(error, WindowError):
            seconds, length_s = plan.options.window_s, first.duration_s
            why = f" recording ({error})"
            if length_s < seconds:
                why = f" recording of {length_s:g} s. Record longer, or train on shorter windows."
            raise WindowError(
                f"{listed}: the model needs windows of {seconds:g} s, and none fits in this{why}"
            ) from error
        if not model.names_sensors and printable(listed) not in str(error):
            error.add_note(f"while reading {listed}")
        raise


def _unused(recording: Recording, by_name: ReadOptions) -> Iterator[str]:
    """Yield the reasons why options that were given have no effect on a recording."""
    if by_name.sample_rate_hz is not None and "sample_rate_hz" not in clock_of(
        recording.attributes
    ):
        yield "sample_rate_hz is not used, because the recording has timestamps."
    if by_name.label_column is not None and not recording.label_spans:
        yield f"the recording has no labels in column {by_name.label_column!r}."


def _notes(
    windows: AnyWindows,
    outside: OutsideWindows | None,
    model: TrainedModel,
    *,
    seen: bool,
) -> list[str]:
    notes = (
        ["the model was trained on this recording, so this prediction does not test the model."]
        if seen
        else []
    )
    if outside is not None and outside.n_outside:
        notes.append(str(outside))
    sets = sets_of(windows)
    for name, of_sensor in sets.items():
        (facts,) = of_sensor.provenance["recordings"]
        if "sample_rate_hz" in (clock := facts.get("clock", {})):
            notes.append(f"{describe_clock(clock)}.")
        recorded, wanted = facts["sample_rate_hz"], of_sensor.sample_rate_hz
        if wanted is not None and recorded is not None and recorded < _SLOW * wanted:
            notes.append(
                f"{name}{': ' if name else ''}recorded at {recorded:.3g} Hz, below the"
                f" {wanted:.3g} Hz of the training windows; frequencies above {recorded / 2:.3g} Hz"
                " are missing."
            )
    for name in model.inputs if model.names_sensors else ():
        n_lost = int((~have_numbers(sets[name])).sum()) if name in sets else len(windows)
        if n_lost:
            notes.append(f"sensor {name!r} is missing in {n_lost} of {len(windows)} windows.")
    return list(dict.fromkeys(notes))


def _is_seen(of_sensor: Input, source: RecordingSource) -> bool:
    assert of_sensor.preparation is not None
    seen = {
        digest for digests in of_sensor.preparation["recordings"].values() for digest in digests
    }
    return any(file["sha256"] in seen for file in digest_source(source))


def format_prediction(prediction: RecordingPrediction, *, every_window: bool) -> str:
    """Format a recording's prediction: overall, and for each window or segment."""
    plain = prediction.to_dict()
    shares = sorted(plain["probability"].items(), key=lambda item: -item[1])
    is_smoothed = plain["smooth"] not in (None, "none")
    lines = [
        printable(" + ".join(str(path) for path in prediction.paths))
        + (f": {prediction.recording_id}" if prediction.in_table else ""),
    ]
    spans = plain["spans"]
    if len({span["label"] for span in spans}) > 1:
        lines.append(wrapped(f"{_shares_of_time(spans)}, in {len(spans)} segments", "  "))
    else:
        means = ", ".join(f"{name} {percent(share)}" for name, share in shares[:4])
        of = f"mean of {plural(plain['n_windows'], 'window')}{', not smoothed' * is_smoothed}"
        lines.append(wrapped(f"{plain['label']}  ({of}: {means})", "  "))
    if len(spans) == 1 and str(plain["vote"]) != str(plain["label"]):
        lines.append(f"  the majority vote of the windows is {plain['vote']}")
    if (agreement := prediction.agreement()) is not None:
        lines.append(wrapped(format_agreement([agreement], is_smoothed=is_smoothed), "  "))
    lines += [wrapped(f"note: {note}", "  ") for note in prediction.notes]
    windows = [
        {**window, "start_s": window["start_s"] - plain["begins_s"]} for window in plain["windows"]
    ]
    if plain["date"]:
        lines.append(f"  begins {plain['date']}; times are in seconds since then")
    if every_window:
        rows = [
            [f"{w['start_s']:.2f}", str(w["label"]), percent(w["probability"][str(w["label"])])]
            for w in windows
        ]
        heads = ["start (s)", "label", "probability" + " (not smoothed)" * is_smoothed]
        lines.append(textwrap.indent(table(heads, rows), "  "))
    else:
        rows = []
        for span in spans:
            when = f"{span['start_s']:.1f} to {span['end_s']:.1f}"
            probability = percent(span["probability"])
            rows.append([when, str(span["n_windows"]), str(span["label"]), probability])
        heads = ["time (s)", "windows", "label", "mean probability" + " (smoothed)" * is_smoothed]
        lines.append(textwrap.indent(table(heads, rows, right=(1, 3)), "  "))
    return "\n".join(lines)


def format_agreement(agreements: Sequence[Agreement], *, is_smoothed: bool) -> str:
    """State how many windows of one or several recordings agree with the labels."""
    right = sum(each.n_right for each in agreements)
    alone = sum(each.n_right_alone for each in agreements)
    n_windows = sum(each.n_windows for each in agreements)
    if not n_windows:
        return "no window has a label in its middle"
    agree = "agrees" if n_windows == 1 else "agree"
    text = f"{right} of {plural(n_windows, 'window')} {agree} with the labels"
    text += f" ({percent(right / n_windows)})"
    if is_smoothed:
        text += f"; {alone} without smoothing"
    unknown = sorted(set().union(*(each.unknown for each in agreements)))
    return text + (f"; the model does not know {listed(map(repr, unknown))}" if unknown else "")


def _shares_of_time(spans: Sequence[Mapping[str, Any]]) -> str:
    """Format the four labels that cover the most time, each with its percentage of the time."""
    seconds: dict[str, float] = {}
    for span in spans:
        label = str(span["label"])
        seconds[label] = seconds.get(label, 0.0) + span["end_s"] - span["start_s"]
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{label} {percent(part / total)} of the time" for label, part in ranked[:4])


def make_drive_page(predictions: Sequence[RecordingPrediction], *, title: str) -> str:
    """Return a self-contained HTML page with a light and a dark theme, readable without scripts.

    The predictions must come from `predict_recordings` with `with_facts=True`.
    """
    from sensorseq.sequence.strips import MOST_RECORDINGS, make_strips  # needs jinja2

    shown = [p for p in predictions if p.timeline and p.facts][:MOST_RECORDINGS]
    classes = shown[0].classes.tolist() if shown else []
    drives = [draw_drive(prediction, classes) for prediction in shown]
    n_left = len(predictions) - len(shown)
    return make_strips("drive.html", classes, drives, title=title, n_left=n_left)


def draw_drive(prediction: RecordingPrediction, classes: list[Any]) -> dict[str, Any]:
    """Return the template values for the timeline of one recording."""
    from sensorseq.sequence.strips import strip_of

    facts, timeline = prediction.facts, prediction.timeline
    assert facts is not None
    assert timeline is not None
    length_s = max(facts.duration_s, timeline.spans[-1].end_s)
    drawn = [c for c in facts.channels.values() if c.n_known]
    agreement, is_smoothed = prediction.agreement(), timeline.smooth != "none"
    agrees = [] if agreement is None else [format_agreement([agreement], is_smoothed=is_smoothed)]
    return strip_of(
        prediction.recording_id,
        timeline.spans,
        prediction.truth,
        classes,
        true_begins_s=prediction.begins_s,
        until_s=length_s,
        signals=[
            (f"{c.name} ({c.unit})" if c.unit else c.name, _picture(facts, c, length_s))
            for c in drawn[:_MOST_CHANNELS]
        ],
        n_more=max(len(drawn) - _MOST_CHANNELS, 0),
        notes=[*agrees, *prediction.notes],
    )


def _picture(facts: RecordingFacts, channel: ChannelFacts, length_s: float) -> "Markup":
    from markupsafe import Markup

    from sensorseq.html.svg import over_time

    low, high = float(np.nanmin(channel.envelope)), float(np.nanmax(channel.envelope))
    limits = (low, high) if high > low else (low - 1, high + 1)
    gaps = (channel.gaps_s - facts.start_s) / (facts.duration_s or 1.0)
    return Markup(
        f'<span class="signal" style="width:{100 * facts.duration_s / length_s:.2f}%">'
        f"{over_time(channel.envelope, limits, gaps, ((), ()), channel.name)}</span>"
    )
