"""Describe recordings, prepared windows or a model, without training anything."""

import importlib
import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.layout import format_channels, format_counts, table, wrapped
from sensorseq.base.text import listed, percent, plural
from sensorseq.diagnosis.report_text import by_share, member_name
from sensorseq.errors import (
    ArgumentError,
    ModelFileError,
    RecordingError,
    did_you_mean,
    refusing,
)
from sensorseq.inspection.facts import RecordingFacts, measure
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.joined_windows import join_windows
from sensorseq.inspection.leakage import LeakageReport, find_leakage
from sensorseq.inspection.odd_recordings import first_to_look_at
from sensorseq.inspection.recordings import check_recordings
from sensorseq.inspection.window_checks import check_shares, check_windows
from sensorseq.io.model_file import SAVE_AGAIN, read_model, take_field
from sensorseq.io.prepared import PreparedFile, is_hdf5, refuse_prepared, sensors_in
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.loading import sensors_of
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.preprocessing.motor_pairs import motor_pairs
from sensorseq.readers import find_recordings, list_arrays, read_source
from sensorseq.readers.columns import describe_counters, describe_dropped, describe_packets
from sensorseq.readers.find import check_labels, left_out_classes
from sensorseq.readers.robot_logs import list_topics
from sensorseq.readers.suffixes import ARRAY_SUFFIXES, suffix_of
from sensorseq.readers.topics import Topic
from sensorseq.recording import Channel, Recording, sample_rate_of
from sensorseq.sensor_windows import have_numbers
from sensorseq.stamps.period import GAP_PERIODS, sample_period
from sensorseq.stamps.read import describe_clock
from sensorseq.windows import PARTS

_MANY_RECORDINGS = 60


@takes_options
def inspect_recordings(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    read_logs: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[RecordingFacts]]:
    """Read recordings one at a time and describe them; also list those that cannot be read.

    Parameters
    ----------
    path : path-like
        Folder, manifest or file; see `find_recordings`.
    options : ReadOptions, optional
        Which recordings to read, and how to read them.
    read_logs : bool, default=False
        Read the messages of robot logs instead of only listing their topics. An option for reading
        messages, such as `channels`, has the same effect.
    progress : callable, optional
        Called with the number of recordings done and their total.

    Returns
    -------
    dict
        ``recordings`` has an entry for each recording: its id, files, label, group, duration, rate,
        channels with their range and missing samples, and longest gap. The entry of a robot log
        instead lists each topic with its type, number of messages, rate and channels. If the arrays
        of a file do not form one recording, the entry lists each array like a topic. If a recording
        cannot be read, its entry contains the ``error``. ``n_errors`` is the number of errors, and
        ``odd`` lists irregularities, the most important first, and ``ranked`` all recordings, the
        one that stands out most first; see `rank_recordings`. ``motors`` lists channels that look
        like the current and the speed of a motor.
    list of RecordingFacts
        Facts about each label span, or about the recording if it has none; robot logs are included
        only if their messages are read.
    """
    refuse_prepared(
        Path(path),
        "use `sensorseq info` to describe it, --html to look at it, or --leakage to check its"
        " split.",
    )
    reading = as_options(options)
    sources = find_recordings(path, reading)
    # For logs, only topics are listed unless `read_logs` or an option for reading is given.
    read_logs = read_logs or any(
        (
            reading.channels,
            reading.time_column,
            reading.label_column,
            reading.units,
            reading.stamps,
        )
    )
    rows: list[dict[str, Any]] = []
    facts: list[RecordingFacts] = []
    classes: set[str] = set()
    left_out: set[str] = set()
    for done, source in enumerate(sources):
        if progress is not None:
            progress(done, len(sources))
        row = {
            "recording_id": source.recording_id,
            "paths": [str(file) for file in source.paths],
            "label": source.label,
            "group": source.group,
        }
        try:
            described = _describe_log(list_topics(source.paths)) if source.is_log else {}
            if read_logs or not source.is_log:
                recording = read_source(source, reading)
                classes.update(recording.labels)
                left_out.update(left_out_classes(recording))
                whole = measure(recording)
                described |= _describe(recording, whole)
                facts += [measure(span) for span in _spans(recording)] or [whole]
        except RecordingError as error:
            described = {"error": str(error)}
            # The arrays of the file do not form one recording; list them, so that the user can
            # choose.
            if suffix_of(source.paths[0]) in ARRAY_SUFFIXES and source.has_arrays:
                with suppress(RecordingError):
                    if topics := list_arrays(source.paths[0]):
                        described = {**_describe_log(topics), "reason": str(error)}
        rows.append({**row, **described})
    if reading.label_column is not None and facts:
        check_labels(reading.labels, classes, "of a recording", left_out)
    n_errors = sum("error" in row for row in rows)
    result: dict[str, Any] = {
        "recordings": rows,
        "n_errors": n_errors,
        **_irregularities(facts),
    }
    read = [row for row in rows if "channels" in row]
    if read:
        of_first = [Channel(each["name"], each["unit"]) for each in read[0]["channels"]]
        result["motors"] = motor_pairs(of_first)
    if reading.sample_rate_hz and read and not any(row["is_at_given_rate"] for row in read):
        result["unused"] = (
            f"sample_rate_hz={reading.sample_rate_hz:g} is not used here, because all"
            " recordings have timestamps. `sensorseq prepare` resamples to this rate."
        )
    return result, facts


def _spans(recording: Recording) -> Iterator[Recording]:
    """Yield each label span as a separate recording."""
    for span in recording.label_spans:
        first, last = np.searchsorted(recording.timestamps_s, [span.start_s, span.end_s])
        yield replace(
            recording,
            values=recording.values[first:last],
            timestamps_s=recording.timestamps_s[first:last],
            recording_id=f"{recording.recording_id} from"
            f" {span.start_s - recording.timestamps_s[0]:.6g} s",
            label=span.label,
            label_spans=(),
        )


def inspect_windows(
    path: str | os.PathLike[str],
    *,
    sensor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[RecordingFacts]]:
    """Describe the recordings in a prepared file, as far as windows contain their samples."""
    rows, facts = [], []
    with _open_sensor(path, sensor) as file:
        for name, recording in join_windows(file, np.arange(len(file)), progress):
            facts.append(measure(recording))
            row_of = {
                "recording_id": name,
                "label": recording.label or "",
                "group": recording.group,
            }
            rows.append({**row_of, **_describe(recording, facts[-1])})
    return {"recordings": rows, "n_errors": 0, **_irregularities(facts)}, facts


def _open_sensor(path: str | os.PathLike[str], sensor: str | None) -> PreparedFile:
    """Open a prepared file, or one sensor of it."""
    if sensor is not None and sensor not in (names := sensors_in(path)):
        sensors = ", ".join(names) or "only one sensor, without a name"
        raise ArgumentError(
            f"--sensor {sensor} does not exist; {path} has"
            f" {sensors}.{did_you_mean(sensor, names, '{}')}"
        )
    return PreparedFile(path, sensor=sensor)


def _irregularities(facts: Sequence[RecordingFacts]) -> dict[str, Any]:
    findings, ranked = check_recordings(facts)
    odd = [finding.to_dict() for finding in findings]
    everywhere: dict[str, Any] = {"recordings": [], "channels": []}
    return {
        "ranked": [each.to_dict() for each in ranked],
        "odd": [{**each, "values": everywhere | each["values"]} for each in odd],
    }


def _describe_log(topics: Sequence[Topic]) -> dict[str, Any]:
    rows = [
        {**topic._asdict(), "rate_hz": topic.rate_hz if np.isfinite(topic.rate_hz) else None}
        for topic in topics
    ]
    return {"topics": [{**row, "channels": list(row["channels"])} for row in rows]}


def _describe(recording: Recording, facts: RecordingFacts) -> dict[str, Any]:
    steps = np.diff(recording.timestamps_s)
    channels = [
        {
            "name": channel.name,
            "unit": channel.unit,
            "min": channel.low.value,
            "max": channel.high.value,
            "mean": channel.mean,
            "p1": float(channel.quantiles[0]),
            "p99": float(channel.quantiles[-1]),
            "sample_rate_hz": channel.rate_hz,
            "n_missing": recording.n_samples - channel.n_known,
            "n_lost": channel.n_lost,
            "gap_share": channel.gap_share,
        }
        for channel in facts.channels.values()
    ]
    rate = sample_rate_of(recording)
    clock: Any = recording.attributes.get("clock")
    return {
        "clock": describe_clock(clock) if clock else None,
        "packets": recording.attributes.get("packets"),
        "is_at_given_rate": bool(clock) and "sample_rate_hz" in clock,
        "n_samples": recording.n_samples,
        "duration_s": recording.duration_s,
        "sample_rate_hz": rate if np.isfinite(rate) else None,
        "longest_gap_s": float(steps.max()) if steps.size else None,
        "n_long_gaps": int((steps > GAP_PERIODS * sample_period(recording.timestamps_s)).sum())
        if steps.size
        else 0,
        "channels": channels,
        "dropped_columns": list(recording.attributes.get("dropped_columns", [])),  # type: ignore[call-overload]
        "counters": list(recording.attributes.get("counters", [])),  # type: ignore[call-overload]
    }


def format_recordings(result: dict[str, Any]) -> str:
    """Format the result of `inspect_recordings` as text."""
    readable = [row for row in result["recordings"] if "channels" in row]
    lines = [plural(len(result["recordings"]), "recording")]
    if readable:
        rates = sorted(row["sample_rate_hz"] for row in readable if row["sample_rate_hz"])
        total = sum(row["duration_s"] for row in readable)
        ends = list(dict.fromkeys(f"{rate:.4g}" for rate in (rates[:1] + rates[-1:])))
        lines[0] += f", {total:.0f} s in total, {' to '.join(ends) or 'unknown'} Hz"
        labels = sorted({str(row["label"]) for row in readable if row["label"] is not None})
        if labels:
            lines.append(f"classes: {', '.join(labels)}")
        names = [
            channel["name"] + (f" ({channel['unit']})" if channel["unit"] else "")
            for channel in readable[0]["channels"]
        ]
        lines.append(f"channels of {readable[0]['recording_id']}: {', '.join(names)}")
        if len({tuple(c["name"] for c in row["channels"]) for row in readable}) > 1:
            lines.append("the channels differ between recordings; choose channels with --channels")
        packets = Counter(row["packets"] for row in readable if row.get("packets"))
        lines += map(wrapped, describe_packets(packets))
        clocks = Counter(row["clock"] for row in readable if row.get("clock"))
        for clock, count in clocks.items():
            lines.append(wrapped(f"{clock} in {plural(count, 'recording')}"))
        counters = Counter(name for row in readable for name in row.get("counters", ()))
        dropped = Counter(name for row in readable for name in row.get("dropped_columns", ()))
        lines += map(wrapped, [*describe_counters(counters), *describe_dropped(dropped)])
        rows = [
            [
                row["recording_id"][-34:],
                f"{row['duration_s']:.1f}",
                f"{row['sample_rate_hz'] or float('nan'):.4g}",
                str(row["n_samples"]),
                str(sum(channel["n_missing"] + channel["n_lost"] for channel in row["channels"])),
                str(row["n_long_gaps"]),
            ]
            for row in readable[:_MANY_RECORDINGS]
        ]
        heads = ["recording", "s", "Hz", "samples", "missing", "gaps"]
        lines += ["", table(heads, rows, right=range(1, 6))]
        if len(readable) > _MANY_RECORDINGS:
            lines.append(f"... {len(readable) - _MANY_RECORDINGS} more; --json lists all")
    if result.get("motors"):
        pairs = ",".join(":".join(pair) for pair in result["motors"])
        lines += ["", f"These channels look like motors: sensorseq train --motors {pairs}"]
    if "unused" in result:
        lines += ["", wrapped(result["unused"])]
    lines += _format_logs([row for row in result["recordings"] if "topics" in row])
    if odd_ones := first_to_look_at(result["ranked"]):
        stands_out = "" if odd_ones[0]["is_marked"] else "No recording stands out. "
        head = (
            f"{stands_out}Farthest from the others of their class (--exclude NAME leaves one out):"
        )
        lines += ["", wrapped(head)]
        lines += [
            wrapped(
                f"{'*' if odd['is_marked'] else '-'} {odd['recording_id']}: {odd['text']}", "  "
            )
            for odd in odd_ones
        ]
    if result["odd"]:
        lines += ["", "Irregularities:"]
        lines += [wrapped(f"- {odd['text']} {odd['advice']}", "  ") for odd in result["odd"]]
    unreadable: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["recordings"]:
        if "error" in row:  # group errors that differ only in file names and numbers
            paths = "|".join(map(re.escape, row["paths"]))
            kind = re.sub(rf"{paths}|[-+.\d]+", "", row["error"])
            unreadable.setdefault(kind, []).append(row)
    for first, *similar in unreadable.values():
        lines.append(f"cannot be read: {first['error']}")
        if similar:
            ids = listed([row["recording_id"] for row in similar], 3)
            more = f"{len(similar)} more cannot be read for this reason: {ids}"
            lines.append(wrapped(more, "  "))
    return "\n".join(lines)


def _format_logs(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of topics for each set of logs that have the same topics."""
    kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for log in logs:
        key = tuple((topic["name"], topic["message_type"]) for topic in log["topics"])
        kinds.setdefault(key, []).append(log)
    lines: list[str] = []
    reasons: list[str] = []
    for first, *similar in kinds.values():
        more = f" and {len(similar)} more with the same topics" if similar else ""
        rows = [
            [
                topic["name"],
                topic["message_type"],
                str(topic["n_messages"]),
                f"{topic['rate_hz'] or float('nan'):.4g}",
                str(len(topic["channels"])),
            ]
            for topic in first["topics"]
        ]
        heads = ["topic", "type", "messages", "Hz", "numbers"]
        if suffix_of(Path(first["paths"][0])) in ARRAY_SUFFIXES:
            heads = ["array", "type", "samples", "Hz", "numbers"]
        lines += ["", f"{first['recording_id']}{more}", table(heads, rows, right=range(2, 5))]
        examples = [topic["channels"] for topic in first["topics"] if topic["channels"]]
        for channels in examples:
            shown = ", ".join(channels[:6]) + (", ..." if len(channels) > 6 else "")
            lines.append(wrapped(shown))
        reasons += [first["reason"]] if "reason" in first else []
    if lines:
        lines.append("")
        lines.append("Choose channels with --channels, for example:")
        lines.append(
            f"  --channels '{examples[0][0]}'" if examples else "  (there are no numeric channels)"
        )
        lines += [
            wrapped(f"The arrays together do not form a recording: {reason}") for reason in reasons
        ]
    return lines


def inspect_leakage(
    path: str | os.PathLike[str], sensor: str | None = None
) -> tuple[LeakageReport, list[Finding]]:
    """Find leaks between the parts of a prepared file: in its windows, scaling or balancing.

    Also return findings about the unscaled training and validation windows. Windows that are in
    both parts are such a finding only if the report does not name them.
    """
    with _open_sensor(path, sensor) as file:
        windows = file.windows()
        # of one of several sensors, only windows that have its data
        windows = windows if sensor is None else windows.take(have_numbers(windows))
        report = find_leakage(windows, sample_indices=file.sample_indices, scaler=file.scaler)
    names = np.full(len(windows), "") if windows.y is None else np.asarray(windows.y)
    classes, codes = np.unique(names, return_inverse=True)
    split = np.full(len(windows), "train") if windows.split is None else np.asarray(windows.split)
    train, validation = (
        Windows(
            windows.X[rows],
            np.maximum(np.asarray(windows.lengths)[rows], 1),
            channels=list(windows.channels),
            target=codes[rows],
            classes=classes,
            groups=None if windows.groups is None else windows.groups[rows],
            rows=rows,
        )
        for rows in (np.flatnonzero(split == part) for part in PARTS[:2])
    )
    shares = check_shares(codes, classes.tolist(), windows.groups)
    findings = [*shares, *check_windows(train, validation)]
    said = {"not_scaled"}
    if any(finding.kind == "identical_windows" for finding in report.findings):
        said.add("windows_in_both_parts")
    return report, [finding for finding in findings if finding.kind not in said]


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a model file or a prepared file; ``kind`` is ``"model"`` or ``"windows"``."""
    file = Path(path)
    if is_hdf5(file):
        if sensors := sensors_in(file):
            each = {name: _describe_windows(file, name) for name in sensors}
            return {"kind": "windows", "path": str(file), "sensors": each}
        return _describe_windows(file)
    if not file.exists():
        raise ModelFileError(f"{file}: no such file.")
    arrays, description = read_model(file)
    if "fusion" in description:
        with refusing(ModelFileError, f"{file} is inconsistent", SAVE_AGAIN, but=ModelFileError):
            take = partial(take_field, description, path=file)
            each = sensors_of(arrays, take, partial(_describe_model, file))
        return {"kind": "model", "path": str(file), "sensors": each}
    return _describe_model(file, arrays, description)


def _describe_model(
    file: Path, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]
) -> dict[str, Any]:
    with refusing(ModelFileError, f"{file} is inconsistent", SAVE_AGAIN, but=ModelFileError):
        preparation = description.get("preparation") or {}
        features = FeatureChoice.from_dict(description["features"])
        history = description.get("history") or []
        described = {
            "kind": "model",
            "path": str(file),
            "classes": list(description["classes"]["values"]),
            "n_models": 1 + len(description.get("other_histories") or []),
            "channels": preparation.get("channels"),
            "sample_rate_hz": preparation.get("sample_rate_hz"),
            "n_timesteps": preparation.get("n_timesteps"),
            "configuration": preparation.get("configuration"),
            "n_recordings_seen": len(preparation.get("recordings") or {}),
            "architecture": dict(description["architecture"]),
            "n_parameters": int(sum(a.size for k, a in arrays.items() if k.startswith("module"))),
            "epochs": len(history),
            "best_epoch": description["best_epoch"],
            "best_score": description["best_score"],
            "adaptation": description.get("adaptation"),
            "weights": dict(description["sum"]["weights"]),
            "shares": {member_name(each): each.share for each in by_share(features) if each.weight},
            "reason": features.reason,
            "parameters": {k: v for k, v in description["parameters"].items() if v is not None},
            "versions": dict(description["versions"]),
        }
        format_file(described)  # raises an error if a value has the wrong type
    return described


def _describe_windows(file: Path, sensor: str | None = None) -> dict[str, Any]:
    with PreparedFile(file, sensor=sensor) as prepared:
        windows = prepared.stored
        ids = windows.recording_id
        return {
            "kind": "windows",
            "path": str(file),
            "n_windows": len(windows),
            "n_timesteps": windows.shape[1],
            "channels": list(windows.channels),
            "sample_rate_hz": windows.sample_rate_hz,
            "n_recordings": None if ids is None else len(np.unique(ids)),
            "n_groups": None if windows.groups is None else len(np.unique(windows.groups)),
            "counts": windows.counts(),
            "configuration": windows.provenance.get("configuration"),
            "n_dropped": len(windows.provenance.get("dropped") or []),
        }


def format_file(described: dict[str, Any]) -> str:
    """Format the result of `describe_file` as text."""
    if "sensors" in described:
        sensors = described["sensors"].items()
        each = (f"sensor {name} of {format_file(part)}" for name, part in sensors)
        return "\n\n".join(each)
    rate = described["sample_rate_hz"]
    at = f" at {rate:g} Hz" if rate else ""
    unknown = "channels unknown (trained on arrays)"
    channels = wrapped(format_channels(described["channels"])) if described["channels"] else unknown
    if described["kind"] == "windows":
        return "\n".join(
            [
                f"{described['path']}: prepared windows",
                f"{described['n_windows']} windows of {described['n_timesteps']} samples{at}, from"
                f" {described['n_recordings']} recordings in {described['n_groups']} groups",
                channels,
                "",
                format_counts(described["counts"]),
            ]
        )
    size, n_models = described["architecture"], described["n_models"]
    sensorseq, n_timesteps = described["versions"].get("sensorseq", "?"), described["n_timesteps"]
    shares = described["shares"] or dict.fromkeys(described["weights"])
    members = [n if share is None else f"{n} {percent(share, 0)}" for n, share in shares.items()]
    notes = [wrapped(f"members: {', '.join(members)}")]
    if len(described["weights"]) == 1:
        notes = [f"the LSTM alone ({described['reason']})"]
    elif described["shares"]:
        notes.append(
            "  (parts of the spread of weighted logits over the classes, held-out windows)"
        )
    if made := described["adaptation"]:
        notes.append(f"adapted from {made['source'][:16]} on {made['n_windows']} windows")
    of_each = "network" if n_models == 1 else f"{n_models} networks, each"
    return "\n".join(
        [
            f"{described['path']}: model of sensorseq {sensorseq}",
            f"classes: {', '.join(str(name) for name in described['classes'])}",
            channels,
            *([f"windows: {n_timesteps} samples{at}"] if n_timesteps else []),
            f"{of_each}: {plural(size['num_layers'], 'LSTM layer')} of {size['hidden_size']} units,"
            f" {described['n_parameters']} parameters",
            f"trained: {plural(described['epochs'], 'epoch')} (best: {described['best_epoch']}), on"
            f" {described['n_recordings_seen'] or 'unknown'} recordings",
            *notes,
        ]
    )


def describe_installation() -> dict[str, Any]:
    """Describe the installed versions and the machine."""
    torch_ops = importlib.import_module("sensorseq.ops._extension")
    choice = importlib.import_module("sensorseq.ops.choice")
    kernels = importlib.import_module("sensorseq.ops.cuda_kernels")
    torch = importlib.import_module("torch")
    cuda = torch_ops.cuda_facts()
    return {
        "sensorseq": importlib.import_module("sensorseq").__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "instruction set": torch_ops.cpu_isa(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "cuda build": cuda if cuda["built"] else None,
        "cuda kernels": f"{kernels.SWITCH}={kernels.switch()}",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "served": [row._asdict() for row in choice.served()],
    }


def format_installation(installed: Mapping[str, Any]) -> str:
    """Format the result of `describe_installation` as text, at most 80 columns wide if possible."""
    shown: dict[str, Any] = dict(installed)
    rows = shown.pop("served")
    cuda = shown.pop("cuda build")
    arch = "" if cuda is None else cuda["arch"].replace(",sm_", ",")
    shown["cuda build"] = "none" if cuda is None else f"{arch}, nvcc {cuda['nvcc']}"
    shown["gpus"] = ", ".join(shown.pop("gpus")) or "none"
    names = ("device", "dtype", "hidden", "served by", "in", "why")
    lines = table(names, [tuple(row.values()) for row in rows])
    head = "\n".join(f"{name}: {value}" for name, value in shown.items())
    title = "Implementation of inference for each hidden size (framework: torch's LSTM):"
    return f"{head}\n\n{title}\n{lines}"
