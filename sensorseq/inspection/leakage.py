"""Check whether held-out windows leak into training, with one check for each kind of leak."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_per_window
from sensorseq.base.text import number, plural
from sensorseq.errors import ArgumentError, WindowError, printable
from sensorseq.inspection.copies import first_equal, near_duplicates, shared_stretches, window_keys
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.window_checks import check_label_channels
from sensorseq.prediction.outside import Floats, Ints
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.provenance import BEFORE_SPLIT, Provenance
from sensorseq.preprocessing.scale import KINDS, Scaler, fit_scaler
from sensorseq.preprocessing.simultaneous import Covered, find_simultaneous
from sensorseq.windows import PARTS, WindowSet, rows_of

if TYPE_CHECKING:  # so that scikit-learn is not imported
    from sensorseq.preprocessing.transformers import ChannelScaler

_N_EXAMPLES = 3
_FEW_DUPLICATES = 3  # fewer matches may be a coincidence
_ABOVE_CHANCE = 3  # a leak's match rate exceeds that between training recordings by this factor
_WIDTH = 80
_BLOCK = 4096  # number of windows that are read together
# Statistics that differ by less than this fraction of a channel's scale count as equal.
_CLOSE = 1e-4


@dataclass(frozen=True)
class LeakageReport:
    """The result of `find_leakage`, which is true if there is a leak; print it for a summary.

    Each of `findings` covers all occurrences of one kind of leak. The `severity` of a finding is
    ``"leak"``, or ``"warning"`` if the fact may be intended or a coincidence. `count` is the number
    of affected windows, recordings, groups or files, and `where` contains the first few of them as
    ``examples``. An example window has ``row``, ``part``, ``recording_id`` and ``start_s``. The
    same keys with the prefix ``other_`` describe the window that the example matches. An example
    recording or group has ``recording_id`` or ``group``, and ``parts``. If constant channels reveal
    the class, `where` contains their names as ``channels``, and `count` is their number.
    `n_of_part` has the number of windows of each part, or the number of folds as ``"folds"``.
    """

    findings: tuple[Finding, ...]
    n_windows: int
    n_of_part: dict[str, int]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that inflate a score."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    def __bool__(self) -> bool:
        return bool(self.leaks)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values; ``"n_leaks"`` counts the findings that are leaks."""
        findings = [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "count": finding.count,
                "what": finding.text,
                "way_out": finding.advice,
                "examples": list(finding.where.get("examples", ())),
            }
            for finding in self.findings
        ]
        return {**vars(self), "findings": findings, "n_leaks": len(self.leaks)}

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {name}" for name, count in self.n_of_part.items())
        checked = f"{self.n_windows} windows" + (f" ({parts})" if parts else "")
        head = plural(len(self.leaks), "leak") if self else "no leak"
        lines = [_filled(f"{head} found in {checked}", "")]
        for finding in self.findings:
            lines += ["", _filled(f"{finding.severity}: {finding.text}", "")]
            lines += [
                _filled(f"for example {_in_words(example)}", "  ")
                for example in finding.where.get("examples", ())
            ]
            lines.append(_filled(f"fix: {finding.advice}", "  "))
        lines += ["", _filled(f"checked: {', '.join(self.checked) or 'nothing'}", "")]
        lines += [_filled(f"not checked: {reason}", "") for reason in self.not_checked]
        return "\n".join(lines)


def find_leakage(
    windows: WindowSet,
    *,
    split: ArrayLike | None = None,
    sample_indices: ArrayLike | None = None,
    scaler: "Scaler | Mapping[str, Any] | ChannelScaler | None" = None,
    folds: Iterable[tuple[ArrayLike, ArrayLike]] | None = None,
) -> LeakageReport:
    """Check whether held-out windows leak into training.

    Parameters
    ----------
    windows : WindowSet
        All windows. Checks that lack information are skipped and listed in the report.
    split : array-like of shape (n_windows,), optional
        Part of each window: ``"train"``, ``"validation"``, ``"test"``, or ``""`` for none of them.
        The default is the windows' own split, unless `folds` are given.
    sample_indices : array-like of int, optional
        Rows that a balancer chose for training.
    scaler : Scaler, mapping or fitted ChannelScaler, optional
        The scaler for these windows: the scaler itself, its `to_dict`, or an object with
        ``scaler_``. Leave it out if the windows are already scaled; their values are then checked.
    folds : iterable of pairs of array-like of int, optional
        Rows for training and for testing, as a splitter yields them.

    Raises
    ------
    WindowError
        If `split`, `folds` or `sample_indices` do not match the windows.
    ArgumentError
        If `scaler` is not a scaler of these channels, or `split` and `folds` are both given.

    Notes
    -----
    A recording that is a piece of another recording under a different name is found
    (`shared_stretches`) if its samples are identical. Pieces of resampled recordings are therefore
    not found.

    Near-duplicates are found by their shape (`near_duplicates`). Copies with a different gain, or
    with noise of up to a tenth of the signal, are usually found; warped or shifted copies rarely
    are. Copies made by `ClassBalancer` are found by their recording and start,
    however their samples were changed.
    """
    views = _views(windows, split, folds)
    checks = _Checks(windows, views)
    if views:
        checks.check_provenance()
        checks.check_rows_in_two_parts()
        checks.check_times()
        checks.check_groups()
        checks.check_identical_windows()
        checks.check_stretches()
        checks.check_near_duplicates()
        if sample_indices is not None:
            checks.check_sample_indices(sample_indices)
    else:
        checks.not_checked.append(
            "the scaler, the chosen rows and leaks between parts, because the windows have no"
            " split; give split or folds."
        )
    checks.check_labels()
    checks.check_sources()
    inner = getattr(scaler, "scaler_", scaler)
    inner = Scaler.from_dict(inner) if isinstance(inner, Mapping) else inner
    if not isinstance(inner, Scaler | None):
        raise ArgumentError(
            f"scaler={scaler!r} is not a Scaler, its to_dict(), or a fitted object with scaler_."
        )
    checks.check_scaler(inner)
    findings = sorted(checks.findings, key=lambda finding: finding.severity)
    counts = {"folds": len(views)} if folds is not None else {}
    for view in views if folds is None else ():
        counts = {name: int((view.part == name).sum()) for name in (*PARTS, "")}
        counts = {name or "left out": count for name, count in counts.items() if count}
    return LeakageReport(
        tuple(findings), len(windows), counts, tuple(checks.checked), tuple(checks.not_checked)
    )


@dataclass(eq=False)
class _View:
    """One assignment of windows to parts: the split, or a fold."""

    part: NDArray[np.str_]
    fold: int | None = None
    in_two: Ints | None = None  # rows that are in both parts of a fold

    def __post_init__(self) -> None:
        # Mark the rows that have been reported, so that each row is counted once.
        self.is_reported = np.zeros(len(self.part), bool)

    @property
    def train(self) -> Ints:
        return np.flatnonzero(self.part == "train")

    @property
    def held_out(self) -> list[str]:
        return [name for name in PARTS[1:] if (self.part == name).any()]


_Pairs = list[tuple[_View, Ints, Ints]]  # rows and the rows they match
_Search = Callable[[Ints, Ints], tuple[Ints, Ints]]


class _Checks:
    """The checks, with their findings so far."""

    def __init__(self, windows: WindowSet, views: list[_View]) -> None:
        self.windows = windows = replace(windows, X=np.asarray(windows.X))  # X may be in a file
        self.views = views
        self.lengths = np.asarray(windows.lengths)
        self.recording = windows.recording_id
        self.findings: list[Finding] = []
        self.checked: list[str] = []
        self.not_checked: list[str] = []
        self.origins = Provenance.of_each(windows.provenance)
        chosen = PreparationOptions.recorded(windows.provenance).split_by
        # True if windows were split by recording in preparation, and no other split is given.
        self.is_by_recording = chosen == "recording" and all(
            view.fold is None and np.array_equal(view.part, np.asarray(windows.split))
            for view in views
        )
        self.apart: set[Any] = set()  # recordings whose parts are separated by an embargo
        self.valid = np.arange(windows.n_timesteps) < self.lengths[:, np.newaxis]
        is_finite = np.isfinite(windows.X).all(axis=2) | ~self.valid
        self.is_finite: NDArray[np.bool_] = np.asarray(is_finite.all(axis=1))
        if n_bad := int((~self.is_finite).sum()):
            self.not_checked.append(
                f"the samples of {plural(n_bad, 'window')}, which contain NaN or infinity."
            )

    def check_provenance(self) -> None:
        self.checked.append("balancing before the split")
        made_before = {name for origin in self.origins for name in origin.made_before_split}
        if made := " and ".join(name for name in BEFORE_SPLIT if name in made_before):
            self._add("balanced_before_split", len(self.windows), made=made)

    def check_rows_in_two_parts(self) -> None:
        pairs = [(v, v.in_two, v.in_two) for v in self.views if v.in_two is not None]
        self._add_pairs("rows_in_two_parts", pairs)

    def check_times(self) -> None:
        if self.recording is None:
            self.not_checked.append("recordings and overlap in time: no recording_id.")
            return
        self.checked.append("shared recordings")
        windows, close = self.windows, set()
        if windows.start_s is not None and windows.sample_rate_hz is not None:
            self.checked += ["overlap in time", "copies of held-out windows"]
            start, step_s = np.asarray(windows.start_s, np.float64), 1 / windows.sample_rate_hz
            overlaps = [(view, *self._overlapping(view, start, step_s)) for view in self.views]
            for view, rows, _ in overlaps:
                view.is_reported[rows] = True
                close |= self._close(view, start, 2 * windows.n_timesteps * step_s)
            self._add_pairs("overlapping_windows", overlaps)
            self._add_pairs("held_out_copies", [(v, *self._copied(v, start)) for v in self.views])
            self._simultaneous(start, step_s)
        else:
            self.not_checked.append(
                "overlap in time: no start_s, or no sample_rate_hz for the length of a window."
            )
            close = set(self.recording.tolist())
        shared = self._parts_of(self.recording)
        self.apart = shared.keys() - close
        self._add_each("shared_recordings", "recording_id", shared, self.apart)

    def _simultaneous(self, start: Floats, step_s: float) -> None:
        """Report held-out windows that cover the same time as a recording in another part."""
        assert self.recording is not None
        self.checked.append("recordings made at the same time")
        keys, begin = self.recording.astype(object), start.copy()
        covered = []
        facts = {
            entry["recording_id"]: entry for entry in self.windows.provenance.get("recordings", ())
        }
        groups = self.recording if self.windows.groups is None else self.windows.groups
        for rows in rows_of(self.recording):
            name = self.recording[rows[0]]
            origin_ns = (facts.get(name, {}).get("clock") or {}).get("origin_ns", 0)
            begin[rows] += origin_ns / 1e9
            end_s = float((begin[rows] + self.lengths[rows] * step_s).max())
            times = {"start_s": float(begin[rows].min()), "end_s": end_s, **facts.get(name, {})}
            y = self.windows.y
            labels = (None,) if y is None else tuple(sorted({str(y[row]) for row in rows}))
            span = times["start_s"], times["end_s"]
            covered.append(Covered(str(name), str(groups[rows[0]]), labels, *span, step_s))
        simultaneous = find_simultaneous(covered)
        if simultaneous is None:
            return
        group_of = simultaneous.group_of
        for rows in rows_of(self.recording):
            keys[rows] = group_of.get(str(self.recording[rows[0]]), keys[rows[0]])
        pairs = []
        for view in self.views:
            rows, matches = self._overlapping(view, begin, step_s, keys.astype(str))
            is_other = self.recording[rows] != self.recording[matches]
            pairs.append((view, rows[is_other], matches[is_other]))
        self._add_pairs("simultaneous_windows", pairs)

    def check_groups(self) -> None:
        group = self.windows.groups
        if group is None:
            self.not_checked.append("shared groups: no groups.")
            return
        if self.recording is not None and np.array_equal(group, self.recording):
            return  # groups are the recordings, which are already checked
        self.checked.append("shared groups")
        parts_of = self._parts_of(group)
        intended = set(parts_of)
        if not self.is_by_recording:
            recording = group if self.recording is None else self.recording
            pairs = zip(group.tolist(), recording.tolist(), strict=True)
            intended = {name for name, member in pairs if member in self.apart}
        self._add_each("shared_groups", "group", parts_of, intended)

    def check_identical_windows(self) -> None:
        self.checked.append("identical windows")
        X = self.windows.X
        moves = ((X[:, :1] != X).any(axis=2) & self.valid).any(axis=1)  # any channel
        keys = window_keys(X, self.lengths) * (moves & self.is_finite)

        def search(rows: Ints, among: Ints) -> tuple[Ints, Ints]:
            at = first_equal(keys[rows], keys[among])
            return rows[at >= 0], among[at[at >= 0]]

        self._add_pairs("identical_windows", self._search_each(search)[0])

    def check_stretches(self) -> None:
        if self.recording is None:
            return  # check_times() reports the missing recording_id
        self.checked.append("identical segments of samples")
        search = partial(shared_stretches, self.windows.X, self.lengths)
        self._add_if_above_chance("shared_stretches", self.recording, search)

    def check_near_duplicates(self) -> None:
        origin = self.recording if self.recording is not None else self.windows.groups
        if origin is None:
            self.not_checked.append(
                "near-duplicates: the windows have neither recording_id nor groups."
            )
            return
        if len(np.unique(origin)) < 4:
            self.not_checked.append("near-duplicates: fewer than four recordings to compare.")
            return
        self.checked.append("near-duplicates")
        search = partial(near_duplicates, self.windows.X, self.lengths, origin)
        self._add_if_above_chance("near_duplicates", origin, search)

    def _search_each(self, search: _Search) -> tuple[_Pairs, int]:
        """Match the windows of each held-out part with training and with earlier held-out parts.

        Return the pairs of matching windows, and the number of held-out windows compared.
        """
        pairs: _Pairs = []
        n_searched = 0
        for view in self.views:
            among = view.part == "train"
            for name in view.held_out:
                in_part = view.part == name
                rows = np.flatnonzero(in_part & self.is_finite & ~view.is_reported)
                matched, matches = search(rows, np.flatnonzero(among & self.is_finite))
                pairs.append((view, matched, matches))
                view.is_reported[matched] = True
                n_searched += len(rows)
                among |= in_part
        return pairs, n_searched

    def _add_if_above_chance(self, kind: str, origin: NDArray[Any], search: _Search) -> None:
        """Report matches of held-out windows, as a leak if chance cannot explain the matches."""
        pairs, n_searched = self._search_each(search)
        n_matched = sum(len(rows) for _, rows, _ in pairs)
        if not n_matched:
            return
        # If windows of different training recordings match nearly as often as held-out windows do,
        # the matches are coincidences, because the signals have only a few shapes or values.
        by_chance = max(
            _chance(search, origin, view.train[self.is_finite[view.train]]) for view in self.views
        )
        most_by_chance = _ABOVE_CHANCE * by_chance * n_searched
        is_leak = n_matched >= _FEW_DUPLICATES and n_matched > most_by_chance
        self._add_pairs(kind, pairs, is_leak=is_leak)

    def check_sample_indices(self, sample_indices: ArrayLike) -> None:
        rows = _check_rows("sample_indices", sample_indices, len(self.windows))
        whole = [view for view in self.views if view.fold is None]
        if not whole:
            self.not_checked.append("sample_indices: folds have no single training part.")
        for view in whole:
            self.checked.append("balanced rows outside train")
            outside = np.unique(rows[view.part[rows] != "train"])
            pairs = [(view, outside, np.full(len(outside), -1))]
            self._add_pairs("samples_outside_train", pairs)

    def check_labels(self) -> None:
        windows = self.windows
        if windows.y is None:
            return
        self.checked.append("constant channels that reveal the class")
        whole = [view.part for view in self.views if view.fold is None]
        split = whole[0] if whole else None
        finding = check_label_channels(
            self._blocks, windows.y, self.recording, self.lengths, split, windows.channels
        )
        if finding is not None:
            self.findings.append(finding)

    def _blocks(self, rows: Ints) -> Iterator[NDArray[Any]]:
        for first in range(0, len(rows), _BLOCK):
            yield self.windows.X[rows[first : first + _BLOCK]]

    def check_sources(self) -> None:
        if self.recording is None:
            return
        present = set(np.unique(self.recording).tolist())
        ids_of: dict[str, dict[str, str]] = {}
        for origin in self.origins:
            for recording_id, files in origin.files.items():
                for file in files if recording_id in present else ():
                    ids_of.setdefault(file.sha256, {})[recording_id] = file.path
        if not ids_of:
            self.not_checked.append("one file under two names: no digests in the provenance.")
            return
        self.checked.append("one file under two names")
        # If all recordings have the same path, the file is a table of many recordings.
        twice = [ids for ids in ids_of.values() if len(ids) > 1 and len(set(ids.values())) > 1]
        divided, together = [], []
        for first, second, *more in twice:
            is_copy = np.isin(self.recording, [first, second, *more])
            parts = [_parts_among(view.part[is_copy]) for view in self.views]
            example = {"recording_id": first, "other_recording_id": second}
            if several := [names for names in parts if len(names) > 1]:
                divided.append({**example, "parts": several[0]})
            else:
                together.append(example)
        self._add("same_source", len(divided), divided)
        self._add("same_source", len(together), together, is_leak=False)

    def check_scaler(self, scaler: Scaler | None) -> None:
        windows = self.windows
        scaled = Provenance.of(windows.provenance).scaled
        if scaler is None and scaled in KINDS:
            # The windows that the scaler was fitted on now have center 0 and scale 1.
            scaler = Scaler(scaled, np.zeros(windows.n_channels), np.ones(windows.n_channels))
        elif scaler is not None and scaled is not None:
            self.not_checked.append("the scaler: the windows are already scaled.")
            return
        if scaler is None or scaler.kind not in KINDS or not self.views:
            return
        if scaler.n_channels != windows.n_channels:
            raise ArgumentError(
                f"the scaler has {scaler.n_channels} channels, but the windows have"
                f" {windows.n_channels}."
            )
        self.checked.append("statistics of the scaler")

        def fits(rows: Ints) -> bool:
            return _fits(windows, scaler, rows[self.is_finite[rows]])

        if any(fits(view.train) for view in self.views):
            return
        beyond: dict[str, Ints] = {"all windows": np.arange(len(windows))}
        for view in self.views:
            for name in view.held_out:
                rows = np.flatnonzero(view.part == name)
                beyond |= {f"train and {name}": np.r_[view.train, rows], f"{name} only": rows}
            beyond["every part"] = np.flatnonzero(view.part != "")
        for name, rows in beyond.items():
            if fits(rows):
                self._add("scaler_fit_beyond_train", len(rows), whose=name)
                return
        self._add("scaler_unknown", len(windows), is_leak=False)

    def _parts_of(self, keys: NDArray[Any]) -> dict[Any, list[str]]:
        """Return the recordings or groups that are in several parts, with their parts."""
        parts_of: dict[Any, list[str]] = {}
        for view in self.views:
            for rows in rows_of(keys):
                if len(parts := _parts_among(view.part[rows])) > 1:
                    parts_of.setdefault(number(keys[rows[0]]), parts)
        return parts_of

    def _in_order(
        self, view: _View, start: Floats, keys: NDArray[Any] | None = None
    ) -> Iterator[Ints]:
        """Yield the rows of each recording that belong to a part, ordered by start."""
        keys = self.recording if keys is None else keys
        assert keys is not None
        for rows in rows_of(keys):
            rows = rows[view.part[rows] != ""]
            yield rows[np.argsort(start[rows], kind="stable")]

    def _overlapping(
        self, view: _View, start: Floats, step_s: float, keys: NDArray[Any] | None = None
    ) -> tuple[Ints, Ints]:
        """Return held-out rows that overlap a window of another part, with the row of that window.

        Only windows with equal `keys` are compared; the default keys are the recordings.
        """
        end, rounding = start + self.lengths * step_s, 0.01 * step_s
        rows, overlapped = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for members in self._in_order(view, start, keys):
            members = members[self.lengths[members] > 0]
            for name in view.held_out:
                in_part = view.part[members] == name
                held_out, others = members[in_part], members[~in_part]
                if not len(held_out) or not len(others):
                    continue
                # of the windows that start before the held-out window ends, the one that ends last
                is_latest = end[others] == np.maximum.accumulate(end[others])
                latest = np.maximum.accumulate(np.where(is_latest, np.arange(len(others)), 0))
                before = np.searchsorted(start[others], end[held_out] - rounding) - 1
                meets = others[latest[np.maximum(before, 0)]]
                hit = (before >= 0) & (end[meets] > start[held_out] + rounding)
                rows.append(held_out[hit])
                overlapped.append(meets[hit])
        return np.concatenate(rows), np.concatenate(overlapped)

    def _close(self, view: _View, start: Floats, reach_s: float) -> set[Any]:
        """Return recordings in which windows of two parts start less than `reach_s` apart."""
        assert self.recording is not None
        # Timestamps in seconds since 1970, about 1.7e9 s, are rounded to 2.4e-7 s.
        reach_s *= 1 - 1e-6
        reach_s -= 4 * np.finfo(np.float64).eps * float(np.abs(start).max(initial=0))
        close = set()
        for rows in self._in_order(view, start):
            part = view.part[rows]
            if (np.diff(start[rows])[part[1:] != part[:-1]] < reach_s).any():
                close.add(number(self.recording[rows[0]]))
        return close

    def _copied(self, view: _View, start: Floats) -> tuple[Ints, Ints]:
        """Return held-out rows whose recording, start and part equal those of an earlier row."""
        assert self.recording is not None
        rows = np.flatnonzero(np.isin(view.part, PARTS[1:]))
        first: dict[tuple[Any, ...], int] = {}
        keys = zip(self.recording[rows].tolist(), start[rows], view.part[rows], strict=True)
        earlier = [first.setdefault(key, row) for key, row in zip(keys, rows.tolist(), strict=True)]
        again = rows != np.array(earlier, np.int64)
        return rows[again], np.array(earlier, np.int64)[again]

    def _add(
        self,
        kind: str,
        count: int,
        examples: Sequence[dict[str, Any]] = (),
        *,
        is_leak: bool = True,
        **values: str,
    ) -> None:
        if count:
            where = {"examples": examples[:_N_EXAMPLES]}
            values_of = {"is_leak": is_leak, "count": count, **values}
            self.findings.append(Finding(kind, values_of, where))

    def _add_each(
        self, kind: str, what: str, parts_of: Mapping[Any, list[str]], intended: Set[Any]
    ) -> None:
        """Report recordings or groups in several parts, as leaks or as possibly intended."""
        for is_leak in (True, False):
            names = [name for name in parts_of if (name not in intended) == is_leak]
            examples = [{what: name, "parts": parts_of[name]} for name in names]
            self._add(kind, len(names), examples, is_leak=is_leak)

    def _add_pairs(self, kind: str, pairs: _Pairs, *, is_leak: bool = True) -> None:
        """Report rows, with the rows that they match, as one finding."""
        count = len({row for _, rows, _ in pairs for row in rows.tolist()})
        examples: list[dict[str, Any]] = []
        for view, rows, matches in pairs:
            for row, other in zip(rows[:_N_EXAMPLES].tolist(), matches.tolist(), strict=False):
                example = self._place(view, row, "")
                if other >= 0 and other != row:
                    example |= self._place(view, other, "other_")
                if view.fold is not None:
                    example["fold"] = view.fold
                examples.append(example)
        self._add(kind, count, examples, is_leak=is_leak)

    def _place(self, view: _View, row: int, prefix: str) -> dict[str, Any]:
        place: dict[str, Any] = {"row": row, "part": str(view.part[row])}
        if self.recording is not None:
            place["recording_id"] = number(self.recording[row])
        if self.windows.start_s is not None:
            place["start_s"] = float(self.windows.start_s[row])
        return {prefix + name: value for name, value in place.items()}


def _chance(search: _Search, origin: NDArray[Any], train: Ints) -> float:
    """Return the fraction of training windows that match other training recordings.

    Matches between copies of a recording are not due to chance. Pairs of recordings that share
    several windows are therefore ignored, unless these recordings have more than two such partners
    on average.
    """
    if not len(train):
        return 0.0
    index = np.unique(origin[train], return_inverse=True)[1]
    halves = train[index % 2 == 0], train[index % 2 == 1]
    rows, matches = search(*halves)
    if not len(rows):
        return 0.0
    names = np.unique(origin, return_inverse=True)[1]
    _, pair, counts = np.unique(
        np.stack([names[rows], names[matches]]), axis=1, return_inverse=True, return_counts=True
    )
    several = counts >= _FEW_DUPLICATES
    n_recordings = len(np.unique(names[rows][several[pair]]))
    if several.sum() <= 2 * n_recordings:
        return float((~several[pair]).sum() / len(halves[0]))
    return len(rows) / len(halves[0])


def _fits(windows: WindowSet, scaler: Scaler, rows: Ints) -> bool:
    """Whether a scaler has the statistics of the windows with the indices `rows`."""
    lengths = np.asarray(windows.lengths)[rows]
    if not lengths.any():
        return False
    fitted = fit_scaler(windows.X[rows], lengths, scaler.kind)
    scale = np.abs(fitted.channel_scale)
    close = (np.abs(fitted.channel_center - scaler.channel_center) <= _CLOSE * scale).all()
    close &= (np.abs(fitted.channel_scale - scaler.channel_scale) <= _CLOSE * scale).all()
    return bool(close)


def _views(windows: WindowSet, split: Any, folds: Any) -> list[_View]:
    n_windows = len(windows)
    if folds is not None and split is not None:
        raise ArgumentError("split and folds are both given; check them one at a time.")
    if folds is not None:
        views = []
        for fold, (train, test) in enumerate(folds):
            train_rows = _check_rows(f"the training rows of fold {fold}", train, n_windows)
            test_rows = _check_rows(f"the test rows of fold {fold}", test, n_windows)
            part = np.full(n_windows, "", dtype="<U10")
            part[train_rows], part[test_rows] = "train", "test"
            views.append(_View(part, fold, np.intersect1d(train_rows, test_rows)))
        if not views:
            raise WindowError("folds is empty; there is nothing to check.")
        return views
    split = windows.split if split is None else split
    if split is None:
        return []
    part = np.asarray(split, dtype="<U10")
    check_per_window("split", part, n_windows, WindowError)
    unknown = sorted(set(part.tolist()) - {*PARTS, ""})
    if unknown:
        raise WindowError(f"split contains {unknown[0]!r}; expected {', '.join(PARTS)}, or ''.")
    return [_View(part)]


def _check_rows(name: str, rows: ArrayLike, n_windows: int) -> Ints:
    indices = np.asarray(rows)
    if indices.dtype == bool and indices.shape == (n_windows,):
        return np.flatnonzero(indices)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise WindowError(f"{name} must be a one-dimensional array of integers.")
    outside = indices[(indices < 0) | (indices >= n_windows)]
    if outside.size:
        raise WindowError(f"{name} contain {outside[0]}, but there are {n_windows} windows.")
    return indices.astype(np.int64)


def _parts_among(part: NDArray[np.str_]) -> list[str]:
    present = set(part.tolist())
    return [name for name in PARTS if name in present]


def _in_words(example: dict[str, Any]) -> str:
    if "row" in example:
        words = _window_in_words(example, "")
        if "other_row" in example:
            words += f" and {_window_in_words(example, 'other_')}"
        return words + (f", in fold {example['fold']}" if "fold" in example else "")
    keys = ("recording_id", "other_recording_id", "group")
    names = [str(example[key]) for key in keys if key in example]
    parts = f", in {' and '.join(example['parts'])}" if "parts" in example else ""
    return " and ".join(names) + parts


def _window_in_words(example: dict[str, Any], prefix: str) -> str:
    where = [example[f"{prefix}part"] or "left out"]
    if f"{prefix}recording_id" in example:
        where.append(f"of {example[f'{prefix}recording_id']}")
    if f"{prefix}start_s" in example:
        where.append(f"at {example[f'{prefix}start_s']:.6g} s")
    return f"window {example[f'{prefix}row']} ({' '.join(where)})"


def _filled(text: str, indent: str) -> str:
    return textwrap.fill(
        printable(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )
