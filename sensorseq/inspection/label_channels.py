"""Check whether the label stands a second time among the channels of windows."""

from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike

from sensorseq.inspection.finding import Finding
from sensorseq.prediction.outside import Ints
from sensorseq.preprocessing.windows.label_channels import Blocks, find_label_channels


def check_label_channels(
    read: Callable[[Ints], Blocks],
    y: ArrayLike,
    recording_id: ArrayLike | None,
    lengths: ArrayLike,
    split: ArrayLike | None,
    channels: Sequence[str] | None,
) -> Finding | None:
    """Return a finding if constant channels give the class, see `find_label_channels`.

    `channels` are the names, or None if they have only numbers.
    """
    found = find_label_channels(read, y, recording_id, lengths, split)
    if found is None:
        return None
    names = [str(place) if channels is None else channels[place] for place in found.channels]
    values = {"is_leak": found.is_leak, "share": found.share, "fewest": found.fewest}
    return Finding("label_channels", {**values, "count": len(names)}, {"channels": names})
