"""Sum: members, and the weight of each in the logits of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.io.model_file import arrays_below
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.kinds import all_kinds
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.member import Member, finite


@dataclass(frozen=True, eq=False)
class Sum:
    """The weighted sum of the logits of members, which is itself a member.

    Attributes
    ----------
    members : dict of str to Member
        The members by name. There is always an `LstmMember` named ``"lstm"``.
    weights : dict of str to float
        The factor of each member's logits; members of weight 0 are not computed.
    bias : ndarray of shape (K,)
        Added to the logits of every window.
    """

    members: dict[str, Member]
    weights: Mapping[str, float]
    bias: NDArray[np.float64]

    @classmethod
    def of_lstm(cls, lstm: LstmMember, n_outputs: int) -> "Sum":
        """Return the sum in which the LSTM decides alone."""
        return cls({LSTM: lstm}, {LSTM: 1.0}, np.zeros(n_outputs))

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows (n, t, c).

        Raises
        ------
        InputError
            If a member returns another shape or NaN, as a user's function may.
        """
        logits = np.tile(self.bias, (len(X), 1))
        for name, weight in self.used.items():
            of_member = self.members[name].logits(X, lengths)
            if of_member.shape != logits.shape or np.isnan(of_member).any():
                found = f"shape {of_member.shape}" if of_member.shape != logits.shape else "NaN"
                raise InputError(
                    f"the member {name!r} returned {found}; expected logits of shape"
                    f" {logits.shape} without NaN."
                )
            logits += weight * of_member
        return logits

    def of_sensor(self, name: str) -> "Sum":
        """Return the sum of one sensor, which is this sum; see also `SensorSum`."""
        return self

    def join(
        self, logits: NDArray[np.float64], lacks: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (n, K) and `lacks` (n,) from those of one sensor; see `SensorSum.join`."""
        return logits[0], lacks[:, 0]

    @property
    def used(self) -> dict[str, float]:
        """The weights above 0."""
        return {name: weight for name, weight in self.weights.items() if weight}

    @property
    def lstm(self) -> LstmMember:
        """The LSTM, whose weight may be 0."""
        lstm = self.members[LSTM]
        assert isinstance(lstm, LstmMember)
        return lstm

    @property
    def uses_lstm(self) -> bool:
        """True unless the weight of the LSTM is 0."""
        return bool(self.weights[LSTM])

    @property
    def is_lstm_alone(self) -> bool:
        """True if the LSTM is the only member."""
        return self.members.keys() == {LSTM}

    @property
    def is_plain(self) -> bool:
        """True if a model file can contain every member; it cannot contain a user's function."""
        return self.members.keys() <= all_kinds().keys()

    def with_member(self, name: str, member: Member) -> "Sum":
        """Return the sum with one member replaced."""
        return replace(self, members={**self.members, name: member})

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        states = {name: member.state() for name, member in self.members.items()}
        settings = {
            "weights": dict(self.weights),
            "bias": self.bias.tolist(),
            "members": {name: settings for name, (settings, _) in states.items()},
        }
        arrays = {
            f"member.{name}.{key}": array
            for name, (_, arrays) in states.items()
            for key, array in arrays.items()
        }
        return settings, arrays

    @classmethod
    def restore(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "Sum":
        """Restore a sum from `state`; raise a ValueError if its parts do not match."""
        members, weights, bias = {}, settings["weights"], settings["bias"]
        if weights.keys() != settings["members"].keys() or LSTM not in weights:
            raise ValueError(f"weights of {[*weights]} for {[*settings['members']]}")
        if not isinstance(bias, list):
            raise ValueError(f"bias is {bias!r}")
        for name, of_member in settings["members"].items():
            kind = all_kinds().get(name)
            if kind is None:
                raise ValueError(f"a member of an unknown kind {name!r}")
            of_name = arrays_below(arrays, f"member.{name}.")
            members[name] = kind(of_member, of_name)
        weights = {name: finite(f"the weight of {name}", weights[name]) for name in weights}
        of_classes = np.array([finite("the bias of a class", value) for value in bias], np.float64)
        return cls(members, weights, of_classes)

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless each member reads these channels and has these outputs."""
        if len(self.bias) != n_outputs:
            raise ValueError(f"{len(self.bias)} biases; the model has {n_outputs} outputs")
        for name, member in self.members.items():
            try:
                member.check(n_channels, n_outputs)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
