"""Scale each recording, or each group, by statistics of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SignalError, check_choice
from sensorseq.preprocessing._window_arrays import as_windows, check_finite, check_lengths
from sensorseq.preprocessing.scale import KINDS, Scaler, fit_scaler
from sensorseq.windows import WindowSet

PER = ("all", "recording", "group")  # what has statistics of its own


@dataclass(frozen=True, eq=False)
class KeyedScaler:
    """One `Scaler` for each recording or group.

    What is particular to a recording (an offset of its sensor, the gain of a robot's driver) is
    taken out. So is what its level says: a motor that draws twice the current of another on the
    same ground looks like it afterwards. Where level is the signal, scale by statistics of all.

    A key that was not fitted is scaled by statistics of the windows that are given of it, so no
    statistic crosses from one recording to another. It takes the whole recording for that: a few
    windows of it give other values, and a stream, which knows no end, cannot be scaled so.

    Made by `fit_keyed_scaler`; `to_dict` and `scaler_from_dict` take it into files and back.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    per : {"recording", "group"}
        What the keys are.
    scalers : mapping of str to Scaler
        By key: a recording's id, or a group.
    n_channels : int
        Number of channels.
    """

    kind: str
    per: str
    scalers: Mapping[str, Scaler]
    n_channels: int

    @property
    def constant_channels(self) -> tuple[int, ...]:
        """Positions of the channels that are constant in each of the fitted recordings."""
        each = [set(scaler.constant_channels) for scaler in self.scalers.values()]
        return tuple(sorted(set.intersection(*each))) if each else ()

    def transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None, keys: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Return X scaled, computed in float64.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
            The second form is one channel.
        lengths : array-like of shape (n_windows,), optional
            Valid steps; the others are 0 in the result, whatever they hold.
        keys : array-like of shape (n_windows,)
            The recording, or group, each window is of. Of one that was not fitted all windows are
            to be there.

        Returns
        -------
        ndarray of the shape of `X`
            float32 for float32, else float64.

        Raises
        ------
        SignalError
            If `keys` are not given, `X` has another number of channels, a valid step is NaN or
            infinite, or `lengths` do not fit.
        """
        return self._apply(X, lengths, keys, inverse=False)

    def inverse_transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None, keys: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Undo `transform`, for keys that were fitted; a `SignalError` names any other."""
        return self._apply(X, lengths, keys, inverse=True)

    def _apply(
        self, X: ArrayLike, lengths: ArrayLike | None, keys: ArrayLike | None, *, inverse: bool
    ) -> NDArray[np.floating]:
        windows = as_windows(X)
        if windows.shape[2] != self.n_channels:
            raise SignalError(
                f"X has {windows.shape[2]} channels, but the scaler was fitted on"
                f" {self.n_channels}."
            )
        steps = check_lengths(windows, lengths)
        scaled = np.empty(windows.shape, windows.dtype)
        for key, rows in rows_by_key(keys, len(windows), self.per).items():
            own_steps = None if steps is None else steps[rows]
            scaler = self.scalers.get(key)
            try:
                if scaler is None and inverse:
                    raise SignalError("was not fitted, so there is no scale to undo.")
                if scaler is None:
                    scaler = fit_scaler(windows[rows], own_steps, self.kind)
                change = scaler.inverse_transform if inverse else scaler.transform
                scaled[rows] = change(windows[rows], own_steps)
            except SignalError as error:
                check_finite(windows, steps)  # that names the window by its place among all
                raise SignalError(f"{self.per} {key!r}: {error}") from error
        return scaled.reshape(np.shape(X))

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the fields as numeric arrays, texts as UTF-8 bytes, for any array file."""
        scalers = list(self.scalers.values())
        fields: dict[str, NDArray[Any]] = {
            "kind": _as_bytes(self.kind),
            "per": _as_bytes(self.per),
            "keys": _as_bytes(json.dumps(list(self.scalers))),
            "channel_center": _stack([s.channel_center for s in scalers], self.n_channels),
            "channel_scale": _stack([s.channel_scale for s in scalers], self.n_channels),
            "is_constant": np.array(
                [
                    [channel in s.constant_channels for channel in range(self.n_channels)]
                    for s in scalers
                ],
                np.uint8,
            ).reshape(-1, self.n_channels),
        }
        quantiles = [s.channel_quantiles for s in scalers if s.channel_quantiles is not None]
        if quantiles:  # a short recording has fewer of them
            fields["n_quantiles"] = np.array([len(q) for q in quantiles], np.uint32)
            fields["channel_quantiles"] = np.concatenate(quantiles)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "KeyedScaler":
        """Make what `to_dict` describes.

        Raises
        ------
        ArgumentError
            If the kind, or what the keys are, is unknown.
        SignalError
            If the arrays do not fit each other.
        """
        kind = check_choice("kind", _as_text(fields["kind"]), KINDS)
        per = check_choice("per", _as_text(fields["per"]), PER[1:])
        try:
            keys = [str(key) for key in json.loads(_as_text(fields["keys"]))]
            center = np.asarray(fields["channel_center"], np.float64)
            scale = np.asarray(fields["channel_scale"], np.float64)
            constant = np.asarray(fields["is_constant"], bool)
            quantiles: list[NDArray[np.float64] | None] = [None] * len(keys)
            if kind == "quantile":
                ends = np.cumsum(np.asarray(fields["n_quantiles"], np.int64))
                stored = np.asarray(fields["channel_quantiles"], np.float64)
                if len(ends) != len(keys) or (len(ends) and ends[-1] != len(stored)):
                    raise ValueError("quantiles")
                quantiles = list(np.split(stored, ends[:-1]))
            if center.shape[:1] != (len(keys),) or not center.shape == scale.shape:
                raise ValueError("centers and scales")
            scalers = {
                key: Scaler(
                    kind,
                    center[i],
                    scale[i],
                    quantiles[i],
                    tuple(np.flatnonzero(constant[i]).tolist()),
                )
                for i, key in enumerate(keys)
            }
            return cls(kind, per, scalers, center.shape[1])
        except (KeyError, IndexError, ValueError) as error:
            raise SignalError(
                f"the stored statistics of a scaler do not fit each other ({error})."
            ) from error


def fit_keyed_scaler(
    X: ArrayLike,
    lengths: ArrayLike | None = None,
    kind: str = "standard",
    *,
    keys: ArrayLike | None,
    per: str = "recording",
) -> KeyedScaler:
    """Learn a scale for each channel of each recording, or group, from its own windows.

    Parameters
    ----------
    X, lengths
        Training windows, as in `fit_scaler`.
    kind : {"standard", "robust", "min_max", "max_abs", "quantile"}
        See `fit_scaler`.
    keys : array-like of shape (n_windows,)
        The recording, or group, each window is of.
    per : {"recording", "group"}
        What the keys are.

    Raises
    ------
    SignalError
        If `keys` are not given, a valid step is NaN or infinite, one of the keys has no valid step,
        or shapes disagree.
    ArgumentError
        If `kind` or `per` is unknown.
    """
    check_choice("kind", kind, KINDS)
    check_choice("per", per, PER[1:])
    windows = as_windows(X)
    steps = check_lengths(windows, lengths)
    scalers = {}
    for key, rows in rows_by_key(keys, len(windows), per).items():
        try:
            scalers[key] = fit_scaler(windows[rows], None if steps is None else steps[rows], kind)
        except SignalError as error:
            check_finite(windows, steps)  # that names the window by its place among all
            raise SignalError(f"{per} {key!r}: {error}") from error
    return KeyedScaler(kind, per, scalers, windows.shape[2])


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
    """Learn one scale for all windows, or one for each recording or group: see `fit_scaler`.

    Parameters
    ----------
    per : {"all", "recording", "group"}
        What has statistics of its own. Only all goes with the kinds physical and None, which learn
        nothing.
    X, lengths, kind, rated, channels
        As in `fit_scaler`.
    recording_id, groups : array-like of shape (n_windows,), optional
        What `per` asks for has to be there.
    """
    check_per(per, kind)
    if per == "all":
        return fit_scaler(X, lengths, kind, rated=rated, channels=channels)
    keys = recording_id if per == "recording" else groups
    return fit_keyed_scaler(X, lengths, str(kind), keys=keys, per=per)


def check_per(per: str, kind: str | None) -> None:
    """Raise unless `per` is known and goes with `kind`."""
    check_choice("per", per, PER)
    if per != "all" and kind not in KINDS:
        raise ArgumentError(
            f"per={per!r} needs a kind that learns from windows ({', '.join(KINDS)}); kind={kind!r}"
            " does not. Take per='all'."
        )


def scaler_from_dict(fields: Mapping[str, Any]) -> "Scaler | KeyedScaler":
    """Make the scaler that a `to_dict` describes; errors are those of its `from_dict`."""
    return KeyedScaler.from_dict(fields) if "per" in fields else Scaler.from_dict(fields)


def transform_by(
    scaler: "Scaler | KeyedScaler",
    X: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    recording_id: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    inverse: bool = False,
) -> NDArray[np.floating]:
    """Return windows scaled, or with `inverse` unscaled, by either scaler and the keys it needs."""
    if isinstance(scaler, Scaler):
        return (scaler.inverse_transform if inverse else scaler.transform)(X, lengths)
    keys = recording_id if scaler.per == "recording" else groups
    return (scaler.inverse_transform if inverse else scaler.transform)(X, lengths, keys)


def transform_windows(
    scaler: "Scaler | KeyedScaler", windows: WindowSet, *, inverse: bool = False
) -> NDArray[np.floating]:
    """Return the samples of a WindowSet scaled, or with `inverse` unscaled."""
    return transform_by(
        scaler,
        windows.X,
        windows.lengths,
        recording_id=windows.recording_id,
        groups=windows.groups,
        inverse=inverse,
    )


def rows_by_key(keys: ArrayLike | None, n_windows: int, per: str) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each key, in order.

    Raises
    ------
    SignalError
        If there are no keys, or not one for each window.
    """
    if keys is None:
        raise SignalError(
            f"scaling per {per} needs the {per} of every window, which an array does not tell. Give"
            " a WindowSet" + (" with recording_id." if per == "recording" else " with groups.")
        )
    given = np.asarray(keys)
    if given.shape != (n_windows,):
        raise SignalError(
            f"keys have shape {given.shape}; {n_windows} windows need ({n_windows},)."
        )
    names, position = np.unique(given, return_inverse=True)
    if not len(names):
        return {}
    order = np.argsort(position, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(position, minlength=len(names)))[:-1])
    return {str(name): own for name, own in zip(names.tolist(), rows, strict=True)}


def _stack(arrays: Sequence[NDArray[np.float64]], n_channels: int) -> NDArray[np.float64]:
    return np.stack(arrays) if arrays else np.empty((0, n_channels))


def _as_bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8).copy()


def _as_text(stored: Any) -> str:
    return bytes(np.asarray(stored, np.uint8)).decode()
