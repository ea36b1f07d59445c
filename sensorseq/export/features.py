"""The features of a window as operators: random convolutions, statistics, steps and trees.

Comparisons with thresholds that were learned from data can depend on rounding. The convolutions
therefore add in float32 in the order of the C++ loop, so that the features are bit-identical to the
model's. Statistics are computed in float64, and the thresholds of steps and trees allow for
rounding errors.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.export.graph import Graph
from sensorseq.export.graph_preprocessing import GraphWindows
from sensorseq.features import CompetingKernels, RandomConvolutions, SummarySteps
from sensorseq.features.competing_kernels import N_GROUPS, N_RIVALS
from sensorseq.features.random_convolutions import N_KERNELS
from sensorseq.features.summary import (
    N_BANDS,
    QUANTILES,
    SMALLEST_POWER,
    SummaryFeatures,
    inner_edges,
)
from sensorseq.features.trees import SMALLEST_LOG, BoostedTrees
from sensorseq.prediction.members.boosting import BoostingMember
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.motors import MOTORS

_TAPS = 9
_LARGEST_SHARE = 1e30  # as in csrc/signal/compete-inl.h
_HEAVY = np.array(list(combinations(range(_TAPS), 3)))  # the three taps of weight 2 in each kernel


def feature_logits(
    g: Graph, name: str, member: Member, windows: GraphWindows, cache: dict[str, str]
) -> str:
    """Add the logits (n, K) of a member that reads features in float64; return the tensor's name.

    `cache` keeps the statistics, which are shared by several members.
    """
    if isinstance(member, BoostingMember):
        return _tree_logs(g, member.trees, statistics_of(g, member.summary, windows, cache))
    how = member.describe if isinstance(member, LinearMember) else None
    if isinstance(how, RandomConvolutions):
        features = g.cast(convolution_shares(g, how, windows), np.float64)
    elif isinstance(how, CompetingKernels):
        features = g.cast(competing_shares(g, how, windows), np.float64)
    elif isinstance(how, SummarySteps):
        statistics = statistics_of(g, how.summary, windows, cache)
        features = g.cast(_steps(g, how, statistics), np.float64)
    else:
        raise InputError(
            f"{not_exported(name, member)} to ONNX; only features='rocket', 'hydra', 'summary' and"
            " 'boosting' can."
        )
    assert isinstance(member, LinearMember)
    weight = g.cast(g.constant(member.weight), np.float64)
    return g("Add", g("MatMul", features, weight), member.bias)


def not_exported(name: str, member: Member) -> str:
    """Return the beginning of a message about a member that cannot be exported."""
    if isinstance(member, LinearMember) and callable(member.describe):
        return f"features={name!r} is your own function, which cannot be exported"
    return (
        "motors= cannot be exported" if name == MOTORS else f"features={name!r} cannot be exported"
    )


def convolution_shares(g: Graph, how: RandomConvolutions, windows: GraphWindows) -> str:
    """Add the features (n, F) of `RandomConvolutions` in float32, bit-identical to the model's."""
    arrays = how.state()["arrays"]
    x, lengths, steps = _padded(g, how, windows)
    ends = np.cumsum(arrays["channel_counts"])
    places = np.split(arrays["channel_indices"], ends[:-1])
    shares, done = [], 0
    for j, dilation in enumerate(arrays["dilations"].tolist()):
        n_biases = int(arrays["features_per_dilation"][j])
        biases = arrays["biases"][done : done + N_KERNELS * n_biases].reshape(-1, n_biases)
        done += N_KERNELS * n_biases
        here = places[j * N_KERNELS : (j + 1) * N_KERNELS]
        outputs = _kernel_outputs(g, x, dilation, here, how.n_channels_, _HEAVY)
        inner = (j + np.arange(N_KERNELS)) % 2 != 0
        fits = g("Greater", g("Unsqueeze", lengths, [1]), 8 * dilation)
        first = g("Where", g("And", fits, inner[None]), 4 * dilation, 0)  # (n or 1, kernels)
        end = g("Sub", g("Unsqueeze", lengths, [1]), first)
        valid = g(
            "And",
            g("GreaterOrEqual", steps, g("Unsqueeze", first, [2])),
            g("Less", steps, g("Unsqueeze", end, [2])),
        )
        outputs = g("Where", valid, outputs, np.float32(-np.inf))
        above = g("Greater", g("Unsqueeze", outputs, [2]), biases[:, :, None])
        count = g("ReduceSum", g.cast(above, np.float32), [3], keepdims=0)
        n_used = g("Unsqueeze", g.cast(g("Sub", end, first), np.float32), [2])
        shares.append(g("Reshape", g("Div", count, n_used), [0, N_KERNELS * n_biases]))
    return g("Concat", *shares, axis=1)


def competing_shares(g: Graph, how: CompetingKernels, windows: GraphWindows) -> str:
    """Add the features (n, F) of `CompetingKernels` in float32, exact except for rounding."""
    arrays = how.state()["arrays"]
    x, lengths, steps = _padded(g, how, windows)
    series = [(x, lengths, g("Less", steps, g("Unsqueeze", lengths, [1, 2, 3])))]
    later = g("Slice", g("Pad", x, [0, 0, 0, 0, 0, 1]), [1], [2**62], [2])
    fewer = g("Sub", lengths, 1)
    valid = g("Less", steps, g("Unsqueeze", fewer, [1, 2, 3]))
    change = g("Where", g("Squeeze", valid, [2]), g("Sub", later, x), np.float32(0))
    series.append((change, fewer, valid))
    places = np.split(arrays["channel_indices"], np.cumsum(arrays["channel_counts"])[:-1])
    shares = []
    for j, dilation in enumerate(arrays["dilations"].tolist()):
        x, lengths, valid = series[arrays["is_difference"][j]]
        signed = arrays["kernels"][j * N_KERNELS : (j + 1) * N_KERNELS]
        channels = [places[j * N_GROUPS + i // N_RIVALS] for i in range(N_KERNELS)]
        kernels = np.where(signed < 0, -1 - signed, signed)
        outputs = _kernel_outputs(g, x, dilation, channels, how.n_channels_, _HEAVY[kernels])
        outputs = g("Mul", outputs, np.where(signed < 0, -1, 1).astype(np.float32)[:, None])
        outputs = g("Reshape", outputs, [0, N_GROUPS, N_RIVALS, -1])
        rivals = np.arange(N_RIVALS)[:, None]
        wins, loses = (
            g("And", g("Equal", g(kind, outputs, axis=2), rivals), valid)
            for kind in ("ArgMax", "ArgMin")
        )
        parts = g("Where", wins, outputs, np.float32(0)), g.cast(loses, np.float32)
        sums = g("ReduceSum", g("Concat", *parts, axis=2), [3], keepdims=0)
        share = g("Div", sums, g.cast(g("Unsqueeze", lengths, [1, 2]), np.float32))
        share = g("Where", g("Greater", share, np.float32(0)), share, np.float32(0))
        root = g("Sqrt", g("Min", share, np.float32(_LARGEST_SHARE)))
        shares.append(g("Reshape", root, [0, 2 * N_KERNELS]))
    return g("Concat", *shares, axis=1)


def _padded(
    g: Graph, how: RandomConvolutions | CompetingKernels, windows: GraphWindows
) -> tuple[str, str, str]:
    """Return padded windows (n, c + 1, t), their lengths, and the step numbers.

    The last channel is zero; it pads the channel lists of kernels that combine fewer channels.
    """
    longest = how.state()["settings"]["padded_steps"]
    x, lengths, n_steps = windows.x, windows.lengths, windows.n_steps
    if longest:  # zeros after the valid steps count as steps
        missing = g("Sub", g("Max", n_steps, [longest]), n_steps)
        x = g("Pad", x, g("Concat", [0, 0, 0, 0], missing, [0], axis=0))
        lengths, n_steps = g("Max", lengths, [longest]), g("Max", n_steps, [longest])
    x = g("Pad", g("Transpose", x, perm=[0, 2, 1]), [0, 0, 0, 0, 1, 0])
    return x, lengths, g("Range", 0, g("Squeeze", n_steps, [0]), 1)


def _kernel_outputs(
    g: Graph,
    x: str,
    dilation: int,
    channels: list[NDArray[np.int32]],
    n_channels: int,
    doubled: NDArray[np.int64],
) -> str:
    """Compute the outputs (n, kernels, t) of kernels at all steps, with sums in the order of C++.

    `doubled` contains the indices of each kernel's taps with weight 2.
    """
    reach = 4 * dilation
    padded = g("Pad", x, [0, 0, reach, 0, 0, reach])
    taps = [
        g("Slice", padded, [i * dilation], [2**62 if i == 8 else (i - 8) * dilation], [2])
        for i in range(_TAPS)
    ]
    minus = g("Neg", taps[4])
    for i in (0, 1, 2, 3, 5, 6, 7, 8):
        minus = g("Sub", minus, taps[i])
    tripled = g("Mul", g("Concat", *taps, axis=1), np.float32(3))
    total = ""
    for place in range(max(map(len, channels))):
        chosen = np.array(
            [drawn[place] if place < len(drawn) else n_channels for drawn in channels], np.int64
        )
        output = g("Gather", minus, chosen, axis=1)
        for heavy in doubled.T:
            taken = g("Gather", tripled, heavy * (n_channels + 1) + chosen, axis=1)
            output = g("Add", output, taken)
        total = g("Add", total, output) if total else output
    return total


def statistics_of(
    g: Graph, summary: SummaryFeatures, windows: GraphWindows, cache: dict[str, str]
) -> str:
    """Add the `summary_features` (n, n_features_) of all channels in float64."""
    key = f"statistics {summary.n_steps_}"
    if key in cache:
        return cache[key]
    x = g("Transpose", g.cast(windows.x, np.float64), perm=[0, 2, 1])  # (n, c, t)
    valid = g("Unsqueeze", windows.is_valid(g), [1])
    count = g("Reshape", g.cast(windows.lengths, np.float64), [-1, 1, 1])
    zero, one = np.float64(0), np.float64(1)
    mean = g("Div", g("ReduceSum", x, [2]), count)
    centered = g("Where", valid, g("Sub", x, mean), zero)
    sd = _root_mean_square(g, centered, count)
    largest_mean = g("Max", g("Abs", mean), np.float64(1e-300))
    varies = g("Greater", sd, g("Mul", largest_mean, np.float64(1e-9)))
    standard = g("Div", centered, g("Where", varies, sd, one))
    squared = g("Mul", standard, standard)
    third = g("Div", g("ReduceSum", g("Mul", squared, standard), [2]), count)
    fourth = g("Div", g("ReduceSum", g("Mul", squared, squared), [2]), count)
    below, above = np.float64(-np.inf), np.float64(np.inf)
    parts = [
        mean,
        sd,
        g("ReduceMin", g("Where", valid, x, above), axes=[2]),
        g("ReduceMax", g("Where", valid, x, below), axes=[2]),
        g("Where", varies, third, zero),
        g("Where", varies, g("Sub", fourth, np.float64(3)), zero),
        *_difference_statistics(g, windows, x, count),
        _quantiles(g, windows, g("Where", valid, x, above)),
        *_spectral(g, windows, centered, varies, summary.n_steps_),
    ]
    joined = g("Concat", *parts, axis=2)
    cache[key] = g("Flatten", joined, axis=1)
    return cache[key]


def _root_mean_square(g: Graph, centered: str, count: str) -> str:
    return g("Sqrt", g("Div", g("ReduceSum", g("Mul", centered, centered), [2]), count))


def _difference_statistics(g: Graph, windows: GraphWindows, x: str, count: str) -> list[str]:
    """Compute mean and standard deviation of step-to-step differences; 0 for a single step."""
    later = g("Slice", x, [1], [2**62], [2])
    steps = g("Sub", later, g("Slice", x, [0], [-1], [2]))
    fewer = g("Sub", windows.lengths, 1)
    valid = g("Slice", g("Unsqueeze", windows.is_valid(g, fewer), [1]), [0], [-1], [2])
    count = g("Max", g("Sub", count, np.float64(1)), np.float64(1))
    steps = g("Where", valid, steps, np.float64(0))
    mean = g("Div", g("ReduceSum", steps, [2]), count)
    centered = g("Where", valid, g("Sub", steps, mean), np.float64(0))
    return [mean, _root_mean_square(g, centered, count)]


def _quantiles(g: Graph, windows: GraphWindows, x: str) -> str:
    """Compute quantiles (n, c, quantiles) by linear interpolation."""
    rising, _ = g.several(2, "TopK", x, windows.n_steps, axis=2, largest=0)
    last = g("Reshape", g("Sub", windows.lengths, 1), [-1, 1, 1])
    at = g("Mul", g.cast(last, np.float64), np.array(QUANTILES))
    below = g.cast(at, np.int64)
    after = g("Min", g("Add", below, 1), last)
    weight = g("Sub", at, g.cast(below, np.float64))
    sizes = g("Concat", g("Shape", x, end=2), [len(QUANTILES)], axis=0)
    low, high = (
        g("GatherElements", rising, g("Expand", place, sizes), axis=2) for place in (below, after)
    )
    return g("Add", low, g("Mul", g("Sub", high, low), weight))


def _spectral(
    g: Graph, windows: GraphWindows, centered: str, varies: str, n_steps: int | None
) -> list[str]:
    """Compute the logarithm (n, c, bands) of the power in each band, with tables of sines.

    If `n_steps` is given, also compute the statistics of narrow bands and of the whole spectrum.
    """
    lengths = g("Reshape", windows.lengths, [-1, 1, 1])
    steps = g("Range", 0, g("Squeeze", windows.n_steps, [0]), 1)
    n_frequencies = g("Add", g("Div", windows.n_steps, 2), 1)
    number = g("Range", 0, g("Squeeze", n_frequencies, [0]), 1)
    turns = g("Mod", g("Mul", g("Unsqueeze", steps, [1]), number), lengths)  # (n or 1, t, k)
    exact = g.cast(lengths, np.float64)
    angle = g("Mul", g("Div", g.cast(turns, np.float64), exact), np.float64(2 * np.pi))
    power = ""
    for shift in (0.0, np.pi / 2):
        part = g("MatMul", centered, g("Sin", g("Add", angle, np.float64(shift))))
        squared = g("Mul", part, part)
        power = g("Add", power, squared) if power else squared
    # Multiply by the reciprocal, as numpy.fft.rfftfreq does. Rounding then puts a frequency on the
    # edge of two bands into the same band as in numpy. If a Div were used, onnxruntime would fuse
    # it with the Mul and round only once.
    number = g("Unsqueeze", number, [1])
    share = g("Mul", g.cast(number, np.float64), g("Reciprocal", exact))  # (n or 1, k, 1)
    band = g("Mul", g("Div", share, np.float64(0.5)), np.float64(N_BANDS))
    band = g("Min", g.cast(band, np.int64), N_BANDS - 1)
    exists = g("LessOrEqual", g("Mul", number, 2), lengths)
    used = g("And", exists, g("Greater", number, 0))

    def log_power(band: str, n_bands: int) -> str:
        member = g.cast(g("And", g("Equal", band, np.arange(n_bands)), used), np.float64)
        total = g("Div", g("MatMul", power, member), g("Mul", exact, exact))
        return g("Log", g("Add", total, np.float64(SMALLEST_POWER)))

    bands = log_power(band, N_BANDS)
    if n_steps is None:
        return [bands]
    zero, one = np.float64(0), np.float64(1)
    is_line = g("And", g("Transpose", used, perm=[0, 2, 1]), varies)  # (n, c, k)
    power = g("Where", is_line, power, zero)
    edges = inner_edges(n_steps)
    is_above = g("GreaterOrEqual", g("Mul", number, n_steps), g("Mul", lengths, edges))
    narrow = g("ReduceSum", g.cast(is_above, np.int64), [2])
    total = g("ReduceSum", power, [2])
    share = g("Div", power, g("Where", g("Greater", total, zero), total, one))
    frequency = g("Div", g("Transpose", g.cast(number, np.float64), perm=[1, 0]), exact)
    centroid = g("ReduceSum", g("Mul", share, frequency), [2])
    away = g("Sub", frequency, centroid)
    spread = g("Sqrt", g("ReduceSum", g("Mul", share, g("Mul", away, away)), [2]))
    logs = g("Log", g("Where", g("Greater", share, zero), share, one))
    entropy = g("Neg", g("ReduceSum", g("Mul", share, logs), [2]))
    return [bands, log_power(narrow, len(edges) + 1), centroid, spread, entropy]


def _steps(g: Graph, how: SummarySteps, statistics: str) -> str:
    """Mark the thresholds that the statistics exceed, in an array (n, F)."""
    arrays, edges = how.state()["arrays"], how.edges()
    if "columns" in arrays:
        statistics = g("Gather", statistics, arrays["columns"], axis=1)
    exceeds = g("Greater", g("Unsqueeze", statistics, [2]), edges)
    return g("Reshape", exceeds, [0, edges.size])


def _tree_logs(g: Graph, trees: BoostedTrees, statistics: str) -> str:
    """Compute bounded log-probabilities (n, K) of boosted trees in float64."""
    a = trees.state()["arrays"]
    n_trees = a["root"].shape[1]
    starts = a["root"].ravel()
    n_nodes = np.diff(np.append(starts, a["feature"].size))
    tree = np.repeat(np.arange(starts.size), n_nodes)
    first = np.repeat(starts, n_nodes)  # index of the root of each node's tree
    inner = a["feature"] >= 0
    leaf = np.flatnonzero(~inner)
    place = np.arange(first.size) - first
    tensor = g.onnx.numpy_helper.from_array
    scores = g(
        "TreeEnsembleRegressor",
        statistics,
        domain="ai.onnx.ml",
        n_targets=n_trees,
        base_values_as_tensor=tensor(a["baseline"], "baseline"),
        nodes_treeids=tree.tolist(),
        nodes_nodeids=place.tolist(),
        nodes_featureids=np.where(inner, a["feature"], 0).tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_values_as_tensor=tensor(np.where(inner, a["threshold"], 0.0), "thresholds"),
        nodes_truenodeids=np.where(inner, a["left"] - first, 0).tolist(),
        nodes_falsenodeids=np.where(inner, a["right"] - first, 0).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=place[leaf].tolist(),
        target_ids=(tree[leaf] % n_trees).tolist(),
        target_weights_as_tensor=tensor(a["value"][leaf], "values"),
    )
    scores = g.cast(scores, np.float64)
    if n_trees == 1:  # a single score belongs to the second class
        scores = g("Concat", g("Mul", scores, np.float64(0)), scores, axis=1)
    return g("Max", g("LogSoftmax", scores, axis=1), np.float64(SMALLEST_LOG))
