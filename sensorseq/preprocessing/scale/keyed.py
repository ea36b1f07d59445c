"""Scale each recording or group by its own statistics."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import as_windows, check_finite, check_lengths
from sensorseq.errors import ArgumentError, InputError, SignalError, check_choice, refusing
from sensorseq.preprocessing.scale.scaler import (
    KINDS,
    Scaler,
    as_bytes,
    as_text,
    check_fitted_windows,
    fit_scaler,
)
from sensorseq.windows import rows_of

PER = ("all", "recording", "group")  # the unit for which statistics are computed


@dataclass(frozen=True, eq=False)
class KeyedScaler:
    """One `Scaler` for each recording or group, by its id.

    This removes what is specific to a recording, such as a sensor offset, but also the information
    in the level: a motor that draws twice the current of another on the same ground looks the same
    afterwards. A key that was not fitted is scaled by the statistics of its given windows, so no
    statistic passes from one recording to another. This needs the whole recording, so a stream
    cannot be scaled this way.
    """

    kind: str
    per: str
    scalers: Mapping[str, Scaler]
    n_channels: int

    @property
    def constant_channels(self) -> tuple[int, ...]:
        """Indices of the channels that are constant in every fitted recording or group."""
        each = [set(scaler.constant_channels) for scaler in self.scalers.values()]
        return tuple(sorted(set.intersection(*each))) if each else ()

    def transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None, keys: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Return X scaled as `Scaler.transform` does; `keys` (n_windows,) are recordings or groups.

        For a key that was not fitted, give all its windows.
        """
        return self._apply(X, lengths, keys, inverse=False)

    def inverse_transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None, keys: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Undo `transform` for fitted keys; a `SignalError` names any other key."""
        return self._apply(X, lengths, keys, inverse=True)

    def _apply(
        self, X: ArrayLike, lengths: ArrayLike | None, keys: ArrayLike | None, *, inverse: bool
    ) -> NDArray[np.floating]:
        windows, steps = check_fitted_windows(X, lengths, self.n_channels)
        scaled = np.empty(windows.shape, windows.dtype)
        for key, rows in rows_by_key(keys, len(windows), self.per).items():
            own_steps = None if steps is None else steps[rows]
            scaler = self.scalers.get(key)
            with _naming(f"{self.per} {key!r}", windows, steps):
                if scaler is None and inverse:
                    raise SignalError("was not fitted, so its scaling cannot be undone.")
                if scaler is None:
                    scaler = fit_scaler(windows[rows], own_steps, self.kind)
                change = scaler.inverse_transform if inverse else scaler.transform
                scaled[rows] = change(windows[rows], own_steps)
        return scaled.reshape(np.shape(X))

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the fields as numeric arrays, with strings as UTF-8 bytes."""
        scalers = list(self.scalers.values())
        fields: dict[str, NDArray[Any]] = {
            "kind": as_bytes(self.kind),
            "per": as_bytes(self.per),
            "keys": as_bytes(json.dumps(list(self.scalers))),
            "channel_center": _stack([s.channel_center for s in scalers], self.n_channels),
            "channel_scale": _stack([s.channel_scale for s in scalers], self.n_channels),
            "is_constant": np.zeros((len(scalers), self.n_channels), np.uint8),
        }
        for row, scaler in zip(fields["is_constant"], scalers):
            row[list(scaler.constant_channels)] = 1
        quantiles = [s.channel_quantiles for s in scalers if s.channel_quantiles is not None]
        if quantiles:  # a short recording has fewer quantiles
            fields["n_quantiles"] = np.array([len(q) for q in quantiles], np.uint32)
            fields["channel_quantiles"] = np.concatenate(quantiles)
        return fields

    @classmethod
    @refusing(SignalError, "the stored statistics of a scaler are inconsistent")
    def from_dict(cls, fields: Mapping[str, Any]) -> "KeyedScaler":
        """Restore a scaler from `to_dict`; raise a `SignalError` if the arrays are inconsistent."""
        kind = check_choice("kind", as_text(fields["kind"]), KINDS)
        per = check_choice("per", as_text(fields["per"]), PER[1:])
        keys = [str(key) for key in json.loads(as_text(fields["keys"]))]
        own: dict[str, Any] = {
            "channel_center": np.asarray(fields["channel_center"]),
            "channel_scale": np.asarray(fields["channel_scale"]),
            "constant_channels": [np.flatnonzero(row) for row in fields["is_constant"]],
        }
        if kind == "quantile":
            ends = np.cumsum(np.asarray(fields["n_quantiles"], np.int64))
            stored = np.asarray(fields["channel_quantiles"])
            if len(ends) and ends[-1] != len(stored):
                raise ValueError("the number of quantiles")
            own["channel_quantiles"] = np.split(stored, ends[:-1]) if len(ends) else []
        if any(len(values) != len(keys) for values in own.values()):
            raise ValueError("the number of scalers")
        scalers = {
            key: Scaler.from_dict({"kind": fields["kind"], **dict(zip(own, values))})
            for key, values in zip(keys, zip(*own.values()))
        }
        return cls(kind, per, scalers, int(np.shape(fields["channel_center"])[1]))


@contextmanager
def _naming(
    whose: str, windows: NDArray[np.floating], steps: NDArray[np.int64] | None
) -> Iterator[None]:
    """Add the name of a recording or group to an error about its windows."""
    try:
        yield
    except SignalError as error:
        check_finite(windows, steps)  # names the window by its index in X
        raise SignalError(f"{whose}: {error}") from error


def fit_scaler_per(
    per: str,
    X: ArrayLike,
    lengths: ArrayLike | None,
    kind: str | None,
    *,
    recording_id: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    rated: Mapping[str, float] | Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
) -> "Scaler | KeyedScaler":
    """Fit one scaler for all windows, or one for each recording or group; see `fit_scaler`.

    The kinds "physical" and None, which are not fitted, need ``per="all"``.
    """
    check_per(per, kind)
    if per == "all":
        return fit_scaler(X, lengths, kind, rated=rated, channels=channels)
    windows = as_windows(X)
    steps = check_lengths(windows, lengths)
    keys = recording_id if per == "recording" else groups
    scalers = {}
    for key, rows in rows_by_key(keys, len(windows), per).items():
        with _naming(f"{per} {key!r}", windows, steps):
            scalers[key] = fit_scaler(windows[rows], None if steps is None else steps[rows], kind)
    return KeyedScaler(str(kind), per, scalers, windows.shape[2])


def check_per(per: str, kind: str | None) -> None:
    """Raise unless `per` is known and compatible with `kind`."""
    check_choice("per", per, PER)
    if per != "all" and kind not in KINDS:
        raise ArgumentError(
            f"per={per!r} needs a kind that is fitted to windows ({', '.join(KINDS)}), but kind is"
            f" {kind!r}. Use per='all'."
        )


@refusing(InputError, "the stored scaling is damaged")
def scaler_from_dict(fields: Mapping[str, Any]) -> "Scaler | KeyedScaler":
    """Restore either kind of scaler from its `to_dict`; raise the errors of its `from_dict`."""
    return KeyedScaler.from_dict(fields) if "per" in fields else Scaler.from_dict(fields)


class _Origin(Protocol):
    """An object that knows the recording and the group of each window, such as a WindowSet."""

    @property
    def recording_id(self) -> NDArray[Any] | None: ...

    @property
    def groups(self) -> NDArray[Any] | None: ...


def transform_by(
    scaler: "Scaler | KeyedScaler",
    X: ArrayLike,
    lengths: ArrayLike | None,
    origin: _Origin | None = None,
    *,
    inverse: bool = False,
) -> NDArray[np.floating]:
    """Scale windows, or with `inverse` undo that, with either kind of scaler."""
    if isinstance(scaler, Scaler):
        return (scaler.inverse_transform if inverse else scaler.transform)(X, lengths)
    keys = None
    if origin is not None:
        keys = origin.recording_id if scaler.per == "recording" else origin.groups
    return (scaler.inverse_transform if inverse else scaler.transform)(X, lengths, keys)


def rows_by_key(keys: ArrayLike | None, n_windows: int, per: str) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each key, in order."""
    if keys is None:
        raise SignalError(
            f"scaling per {per} needs the {per} of every window, which a plain array does not have."
            " Give a WindowSet" + (" with recording_id." if per == "recording" else " with groups.")
        )
    given = np.asarray(keys)
    if given.shape != (n_windows,):
        raise SignalError(
            f"keys have shape {given.shape}; {n_windows} windows need ({n_windows},)."
        )
    return {str(given[rows[0]]): rows for rows in rows_of(given) if len(rows)}


def _stack(arrays: Sequence[NDArray[np.float64]], n_channels: int) -> NDArray[np.float64]:
    return np.stack(arrays) if arrays else np.empty((0, n_channels))
