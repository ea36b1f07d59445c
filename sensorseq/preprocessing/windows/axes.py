"""Find the triples of channels that are the axes of one sensor, such as an accelerometer."""

from collections import defaultdict
from collections.abc import Sequence

from sensorseq.errors import ArgumentError
from sensorseq.text import listed

HOW_TO_NAME = (
    "name the axes as triples in the order x, y, z, for example"
    " axes=[('acc.x', 'acc.y', 'acc.z'), ('gyro.x', 'gyro.y', 'gyro.z')], or give their numbers"
)


def find_axes(channels: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return the numbers of the channels x, y and z of each sensor, known by their names.

    Three names belong together if they end, or begin, in x, y and z and are otherwise the same;
    upper and lower case are one. With a fourth in w they are a quaternion, which is no vector, and
    left out.

    Raises
    ------
    ArgumentError
        If there is no triple, or two channels could be the same axis, or one channel an axis of two
        triples.
    """
    named: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, name in enumerate(channels):
        low = name.lower()
        ways = [((low[:-1], ""), low[-1:]), (("", low[1:]), low[:1])]
        for rest, axis in dict.fromkeys(ways):  # one way, where the name is the axis alone
            named[rest][axis].append(at)
    of_axis = [axes for axes in named.values() if axes.keys() >= set("xyz") and "w" not in axes]
    seen: set[int] = set()
    triples = []
    for axes in of_axis:
        x, y, z = (axes[axis] for axis in "xyz")
        claimed = {*x, *y, *z}
        if len(claimed) > 3 or claimed & seen:
            doubtful = [channels[at] for at in sorted(claimed)]
            raise ArgumentError(
                f"augmentation: rotation_deg finds no clear x, y and z among {listed(doubtful)};"
                f" {HOW_TO_NAME}."
            )
        seen |= claimed
        triples.append((x[0], y[0], z[0]))
    if not triples:
        raise ArgumentError(
            "augmentation: rotation_deg needs triples of channels, but none of"
            f" {listed(list(channels))} are three names that differ in x, y and z alone;"
            f" {HOW_TO_NAME}."
        )
    return sorted(triples)
