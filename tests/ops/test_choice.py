"""The choice of the code for a call: a table of cases, torch's settings, and tracing."""

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from sensorseq import ops
from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import _extension, choice, cuda_kernels, reference
from sensorseq.ops.choice import MAX_CHANNELS, choose, training_gap
from sensorseq.ops.cuda_kernels import (
    ALL_KERNELS,
    NOT_PASSED,
    PADDED_HIDDEN,
    Permission,
    kernels_for,
)

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
HOPPER = {"is_built": True, "capability": (9, 0), "verified": ALL_KERNELS}
AMPERE = {**HOPPER, "capability": (8, 6)}
TF32 = {**HOPPER, "allows_tf32": True}


@pytest.mark.parametrize(
    ("device_type", "dtype", "hidden_size", "machine", "served_by", "precision"),
    [
        ("cpu", F32, 4000, {}, "native", "float32"),
        ("cpu", F64, 1, {}, "native", "float64"),
        ("cpu", F16, 8, {}, "framework", "float16"),
        ("cpu", BF16, 8, {"has_mask": True}, "reference", "bfloat16"),
        ("cpu", F32, 8, {"has_mask": True}, "native", "float32"),
        ("cuda", F32, 1, HOPPER, "native", "fp32"),
        ("cuda", F32, 64, {**HOPPER, "n_sequences": 264}, "native", "fp32"),
        ("cuda", F32, 64, {**HOPPER, "n_sequences": 265}, "native", "fp16x3"),
        ("cuda", BF16, 96, HOPPER, "native", "fp32"),
        ("cuda", F32, 96, {**AMPERE, "n_sequences": 10_000}, "native", "fp32"),
        ("cuda", F16, 96, AMPERE, "native", "fp32"),
        ("cuda", F32, 97, AMPERE, "framework", "float32"),
        ("cuda", F32, 256, HOPPER, "native", "fp16x3"),
        ("cuda", F32, 257, HOPPER, "framework", "float32"),
        ("cuda", F32, 128, TF32, "native", "fp16x3"),
        ("cuda", F32, 129, TF32, "native", "fp16"),
        ("cuda", F32, 256, TF32, "native", "fp16"),
        ("cuda", F32, 257, TF32, "framework", "float32"),
        ("cuda", F16, 256, HOPPER, "native", "fp16"),
        ("cuda", BF16, 256, HOPPER, "native", "fp16"),
        ("cuda", BF16, 257, HOPPER, "framework", "bfloat16"),
        ("cuda", F32, 8, {**HOPPER, "verified": frozenset()}, "framework", "float32"),
        ("cuda", F32, 64, {**HOPPER, "verified": {("fp16x3", 64)}}, "native", "fp16x3"),
        ("cuda", F32, 64, {**HOPPER, "verified": {("fp16x3", 128)}}, "framework", "float32"),
        ("cuda", F32, 64, {**HOPPER, "verified": {("fp32", 64)}}, "native", "fp32"),
        ("cuda", F32, 65, {**HOPPER, "verified": {("fp16x3", 64)}}, "framework", "float32"),
        ("cuda", F32, 33, {**TF32, "verified": {("fp16", 64)}}, "framework", "float32"),
        ("cuda", F16, 33, {**HOPPER, "verified": {("fp16", 64)}}, "native", "fp16"),
        ("cuda", F64, 8, TF32, "framework", "float64"),
        ("cuda", F64, 8, {**TF32, "has_mask": True}, "reference", "float64"),
        ("cuda", F32, 512, {**HOPPER, "has_mask": True}, "reference", "float32"),
        ("cuda", F32, 32, {**HOPPER, "has_mask": True}, "native", "fp32"),
        ("cuda", F32, 8, {**HOPPER, "capability": (13, 0)}, "native", "fp32"),
        ("cuda", F32, 8, {**HOPPER, "capability": (7, 2)}, "framework", "float32"),
        ("cuda", F32, 8, {**HOPPER, "capability": None}, "framework", "float32"),
        ("cuda", F32, 8, {**HOPPER, "is_built": False}, "framework", "float32"),
        ("cuda", torch.int64, 8, TF32, "reference", "int64"),
        ("meta", F32, 8, TF32, "reference", "float32"),
        ("xpu", F32, 8, TF32, "framework", "float32"),
    ],
)
def test_a_call_is_computed_by_the_expected_code(
    device_type, dtype, hidden_size, machine, served_by, precision
):
    chosen = choose(device_type, dtype, hidden_size=hidden_size, **machine)
    assert chosen[:2] == (served_by, precision)
    assert not chosen.is_projected


@pytest.mark.parametrize(
    ("capability", "hidden_size", "n_sequences", "kernels"),
    [
        (None, 8, 1, []),
        ((7, 0), 8, 1, []),
        ((7, 5), 32, 9999, ["fp32 32"]),
        ((8, 0), 33, 9999, ["fp32 64"]),
        ((8, 9), 96, 9999, ["fp32 96"]),
        ((12, 1), 97, 1, []),
        ((9, 0), 32, 9999, ["fp32 32", "fp16 64"]),
        ((9, 0), 33, 264, ["fp32 64", "fp16 64"]),
        ((9, 0), 33, 265, ["fp16 64", "fp32 64"]),
        ((9, 0), 96, 264, ["fp32 96", "fp16 128"]),
        ((9, 0), 96, 265, ["fp16 128", "fp32 96"]),
        ((9, 0), 97, 1, ["fp16 128"]),
        ((9, 0), 256, 1, ["fp16 256"]),
        ((9, 0), 257, 1, []),
    ],
)
def test_the_kernels_for_a_call(capability, hidden_size, n_sequences, kernels):
    call = capability, hidden_size, n_sequences
    for precision in ("fp16", "fp16x3"):
        found = kernels_for(*call, precision)
        wanted = [kernel.replace("fp16", precision) for kernel in kernels]
        assert [" ".join(map(str, kernel)) for kernel in found] == wanted


def test_within_batches_the_kernel_depends_on_neither_the_last_batch_nor_the_number_of_models():
    with choice.batches_of(256):
        assert {choice.n_sequences(m, n, 1) for m in (1, 32) for n in (1, 256)} == {256}
        with choice.batches_of(8):
            assert choice.n_sequences(1, 256, 2) == 16
        assert choice.n_sequences(1, 3, 2) == 512
    assert choice.n_sequences(2, 3, 2) == 12


@pytest.mark.parametrize(
    ("n_channels", "needs_grad_x", "projected"),
    [(0, False, False), (16, False, False), (17, False, True), (1, True, True)],
)
def test_on_a_gpu_many_channels_and_inputs_with_a_gradient_are_projected(
    n_channels, needs_grad_x, projected
):
    call = {"hidden_size": 8, "n_channels": n_channels, "needs_grad_x": needs_grad_x}
    assert choose("cuda", F32, **call, **HOPPER).is_projected is projected
    assert not choose("cuda", F64, **call, **HOPPER).is_projected
    assert not choose("cpu", F32, **call).is_projected


@pytest.mark.parametrize(
    ("machine", "dtype", "reason"),
    [
        ({"is_built": False}, F32, "built without CUDA kernels for capability 9.0"),
        ({"is_built": False, "capability": None}, F32, "built without CUDA kernels"),
        ({"capability": None}, F32, "torch sees no GPU"),
        ({"capability": (7, 0)}, F32, "needs capability 7.5 or later, not 7.0"),
        ({"capability": (12, 0), "hidden_size": 97}, F32, "needs hidden size <= 96 on 12.0"),
        ({"hidden_size": 1000}, F32, "needs hidden size <= 256"),
        ({"verified": frozenset()}, F32, "the kernels have not been checked on this GPU"),
        ({"verified": frozenset(), "unverified": NOT_PASSED}, F32, NOT_PASSED),
        ({}, F64, "no kernel for float64 on cuda"),
    ],
)
def test_the_reason_names_what_is_missing(machine, dtype, reason):
    assert choose("cuda", dtype, **{"hidden_size": 8, **HOPPER, **machine}).reason == reason


def test_the_limits_are_those_of_the_kernels():
    header = (Path(__file__).parents[2] / "csrc/lstm/lstm_linear_cuda.h").read_text()
    assert f"kMaxChannels = {MAX_CHANNELS};" in header
    if not _extension.cuda_facts()["built"]:
        return  # without CUDA kernels, the limits cannot be compared with anything
    for precision, sizes in PADDED_HIDDEN.items():
        for hidden_size in range(1, 512):
            for n_channels, is_projected in ((0, True), (1, False), (MAX_CHANNELS, False)):
                call = hidden_size, n_channels, 2, precision, is_projected
                gap = torch.ops.sensorseq.cuda_is_served(*call)
                assert (not gap) == (hidden_size <= sizes[-1]), (precision, hidden_size, gap)
        assert torch.ops.sensorseq.cuda_is_served(8, MAX_CHANNELS + 1, 1, precision, False)


@pytest.fixture
def torch_settings():
    """torch's settings for float32 precision, which a test may change."""
    backends = torch.backends
    before = backends.fp32_precision, backends.cudnn.fp32_precision
    assert before == ("none", "none")
    assert backends.cudnn.allow_tf32
    yield backends
    backends.fp32_precision = backends.cudnn.fp32_precision = "none"
    backends.cudnn.allow_tf32 = True
    assert choice.allows_tf32()


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_read_whichever_way_it_was_set(torch_settings, allowed):
    torch_settings.cudnn.allow_tf32 = not allowed
    torch_settings.cudnn.allow_tf32 = allowed  # the older setting
    assert choice.allows_tf32() == allowed
    torch_settings.cudnn.allow_tf32 = not allowed
    torch_settings.cudnn.rnn.fp32_precision = "tf32" if allowed else "ieee"  # the newer setting
    assert choice.allows_tf32() == allowed
    with pytest.raises(RuntimeError, match="mix of the legacy and new"):
        _ = torch_settings.cudnn.allow_tf32  # so our code must not read `allow_tf32`
    torch_settings.cudnn.rnn.fp32_precision = "none"  # inherits
    torch_settings.cudnn.fp32_precision = "tf32" if allowed else "ieee"
    assert choice.allows_tf32() == allowed


def test_autocast_decides_the_precision():
    assert choice.computing_dtype("cpu", F32) == F32
    assert choice.computing_dtype("cpu", BF16) == BF16
    with torch.autocast("cpu", dtype=BF16):
        assert choice.computing_dtype("cpu", F32) == choice.computing_dtype("cpu", BF16) == F32
        assert choice.computing_dtype("cpu", F64) == F64
        assert choice.computing_dtype("meta", F32) == F32
        assert choice.computing_dtype("cuda", F32) == F32


def test_autocast_on_a_gpu_computes_in_its_half_precision(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: device_type == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device_type: BF16)
    assert choice.computing_dtype("cuda", F32) == choice.computing_dtype("cuda", F16) == BF16
    assert choice.computing_dtype("cuda", F64) == F64
    assert choice.computing_dtype("cpu", F32) == F32


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(choice, "_capability", lambda index: (9, 0))
    monkeypatch.setattr(choice, "_is_built", lambda version: True)
    permission = Permission(ALL_KERNELS - {("fp16", 128)}, NOT_PASSED)
    monkeypatch.setattr(cuda_kernels, "permission", lambda index: permission)


@pytest.mark.parametrize("tf32", [True, False])
def test_the_list_agrees_with_the_choices(hopper, monkeypatch, tf32):
    monkeypatch.setattr(choice, "allows_tf32", lambda: tf32)
    rows = [row for row in choice.served() if row.device != "cpu"]
    dtypes = {"float32": F32, "float64": F64, "half": BF16}
    for hidden_size in range(1, 1030):
        for name, dtype in dtypes.items():
            rows_of = (row for row in rows if row.dtype == name)
            of_size = [row for row in rows_of if _covers(row.hidden_size, hidden_size)]
            assert len(of_size) == 1, (hidden_size, name)
            chosen = choice.choose_here(torch.device("cuda"), dtype, hidden_size=hidden_size)
            assert of_size[0].served_by == chosen.served_by
            assert of_size[0].precision in (chosen.precision, "half")


def _covers(sizes, hidden_size):
    if sizes == "any":
        return True
    first, last = (re.match(rf"(?:.* )?{word} (\d+)", sizes) for word in ("over", "to"))
    if first:
        return hidden_size > int(first[1])
    begin = re.match(r"\d+", sizes)
    return (int(begin[0]) if begin else 1) <= hidden_size <= int(last[1])


def drawn(H, C, *, dtype=F32, device="cuda", D=2, N=9, T=20, K=5):
    shapes = [(1, N, T, C), (1, D, 4 * H, C), (1, D, 4 * H, H), (1, D, 4 * H)]
    shapes += [(1, K, 2 * D * H), (1, K)]
    return [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]


# Fake tensors of a GPU must not require a gradient: a CPU build of torch would abort the process.
@pytest.mark.parametrize(
    ("dtype", "H", "C", "tf32", "x_width", "precision"),
    [
        (F32, 32, 3, False, 3, "fp32"),
        (F16, 32, 17, False, 256, "fp32"),
        (F32, 40, 3, False, 3, "fp16x3"),
        (F32, 40, 16, True, 16, "fp16x3"),
        (F32, 150, 16, True, 16, "fp16"),
        (F32, 40, 17, False, 320, "fp16x3"),
        (F16, 250, 3, False, 3, "fp16"),
        (BF16, 250, 20, False, 2000, "fp16"),
    ],
)
def test_a_call_with_tensors_of_a_gpu_is_traced_into_one_native_op(
    hopper, monkeypatch, dtype, H, C, tf32, x_width, precision
):
    monkeypatch.setattr(choice, "allows_tf32", lambda: tf32)

    class Layer(torch.nn.Module):
        def forward(self, *tensors, lengths):
            return ops.lstm_linear(*tensors, pooling="meanmax", lengths=lengths)

    with FakeTensorMode():
        tensors = tuple(drawn(H, C, dtype=dtype))
        lengths = torch.empty(9, dtype=torch.int64, device="cuda")
        logits, h_n, c_n = Layer()(*tensors, lengths=lengths)
    assert (logits.shape, h_n.shape, c_n.shape) == ((1, 9, 5), (1, 9, 2, H), (1, 9, 2, H))
    for result in (logits, h_n, c_n):
        assert result.dtype == dtype
        assert result.device.type == "cuda"
    graph = torch.export.export(Layer(), tensors, {"lengths": lengths}).graph
    calls = [n for n in graph.nodes if n.target == torch.ops.sensorseq.lstm_linear.default]
    (call,) = calls
    x, _, weight_ih = (None if a is None else a.meta["val"] for a in call.args[:3])
    assert (x.shape[3], weight_ih.shape[3]) == (x_width, C if x_width == C else 0)
    names = [argument.name for argument in call.target._schema.arguments]
    arguments = dict(zip(names, call.args, strict=False)) | call.kwargs
    assert not arguments["save_state"]
    assert arguments["precision"] == precision
    assert x.dtype == (dtype if precision == "fp32" else F32)


@pytest.mark.parametrize(
    ("precision", "H", "padded"),
    [
        *(("fp16x3", *sizes) for sizes in ((1, 64), (64, 64), (65, 128), (129, 256), (256, 256))),
        *(("fp32", *sizes) for sizes in ((1, 32), (32, 32), (33, 64), (96, 96))),
    ],
)
def test_on_a_gpu_the_saved_state_has_the_shape_of_the_kernels(precision, H, padded):
    of_window = (9, 20 * 8 + 1, padded) if precision == "fp32" else (2, 20 * 12 + 2, 4 * padded)
    with FakeTensorMode():
        x, w_ih, w_hh, bias, w_out, b_out = drawn(H, 3, N=9, T=20)
        call = [x, None, w_ih, w_hh, bias]
        *_, saved = torch.ops.sensorseq.lstm(*call, None, None, None, True, precision)
        assert saved.shape == (1, 2, *of_window)
        assert saved.device.type == "cuda"
        *_, saved = torch.ops.sensorseq.lstm(*call, None, None, None, False, precision)
        assert saved.shape == (0,)
        head = [w_out, b_out, None, None, None, "meanmax"]
        *_, saved = torch.ops.sensorseq.lstm_linear(*call, *head, True, precision)
        assert saved.shape == (1, 2, *of_window)


def test_a_projection_of_a_wrong_width_is_refused_while_tracing():
    with FakeTensorMode():
        x, w_ih, w_hh, bias, *_ = drawn(8, 2 * 4 * 8 - 1)
        no_weights, no_states = w_ih.new_empty((1, 2, 32, 0)), (None, None, None, False)
        with pytest.raises(RuntimeError, match="all gates"):
            torch.ops.sensorseq.lstm(x, None, no_weights, w_hh, bias, *no_states)


@pytest.mark.parametrize("key", ["AutocastCPU", "AutocastCUDA"])
@pytest.mark.parametrize("op", ["lstm", "lstm_linear"])
def test_the_raw_ops_support_autocast_on_both_devices(op, key):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sensorseq::{op}", key)


def test_settings_and_sizes_are_read_while_tracing_without_a_graph_break(hopper):
    def precision(x, hidden_size):
        chosen = choice.choose_here(torch.device("cuda"), x.dtype, hidden_size=hidden_size)
        return x + len(chosen.reason)

    x = torch.zeros(3)
    for dynamic in (False, True):
        traced = torch.compile(precision, fullgraph=True, backend="eager", dynamic=dynamic)
        for hidden_size in (7, 256):
            torch.testing.assert_close(traced(x, hidden_size), precision(x, hidden_size))


def test_properties_of_this_machine_are_read_while_tracing_without_a_graph_break():
    def reason(x):
        chosen = choice.choose_here(torch.device("cuda", 0), x.dtype, hidden_size=3)
        return x + len(chosen.reason)

    x = torch.zeros(3)
    traced = torch.compile(reason, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(x), reason(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch
def test_a_forward_mode_derivative_is_refused_and_not_dropped():
    sizes = {"device": "cpu", "N": 2, "T": 3, "K": 2}
    x, *weights, w_out, b_out = (torch.randn(t.shape) for t in drawn(4, 3, **sizes))
    head, y = [w_out, b_out], torch.zeros(1, 2, dtype=torch.int64)

    def layer(x):
        return ops.lstm(x, *weights)[0]

    def of_weight(weight):
        return ops.lstm_linear(x, weights[0], weight, weights[2], *head, pooling="meanmax")[0]

    def mean_loss(x):
        return ops.lstm_linear_loss(x, y, *weights, *head, pooling="meanmax")[0]

    module = LSTMLinear(3, 4, 2)
    stream = module.stream(len(x[0]))
    functions = [(layer, x), (of_weight, weights[1]), (mean_loss, x), (module, x[0])]
    for function, at in (*functions, (stream, x[0])):
        tangent = torch.ones_like(at)
        with pytest.raises(ArgumentError, match=r"jvp.*reference"):
            torch.func.jvp(function, (at,), (tangent,))
        with pytest.raises(ArgumentError, match=r"jvp.*reference"):
            torch.func.jacfwd(function)(at)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(at, tangent)
            with pytest.raises(ArgumentError, match=r"jvp.*reference"):
                function(dual)
            function(at)  # a tensor without a tangent raises no error


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch
def test_the_reference_follows_a_forward_mode_derivative():
    tensors = drawn(4, 3, device="cpu", N=2, T=3)
    x, *weights, _, _ = (torch.randn(t.shape, dtype=F64) for t in tensors)

    def layer(x):
        return reference.lstm(x, None, *weights)[0]

    tangent = torch.randn_like(x)
    _, forwards = torch.func.jvp(layer, (x,), (tangent,))
    step = 1e-6
    difference = (layer(x + step * tangent) - layer(x - step * tangent)) / (2 * step)
    torch.testing.assert_close(forwards, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({}, None),
        ({"hidden_size": 256, "n_channels": 16}, None),
        ({"hidden_size": 257}, "needs hidden size <= 256"),
        ({"verified": {("fp16", 64)}}, "the kernels have not been checked on this GPU"),
        ({"verified": {("fp16x3", 64)}}, None),
        ({"verified": {("fp16x3", 64)}, "allows_tf32": True}, None),
        ({"verified": {("fp16", 256)}, "hidden_size": 200, "allows_tf32": True}, None),
        ({"n_channels": 17}, "at most 16 channels, not 17"),
        ({"num_layers": 2}, "one layer, not 2"),
        ({"head_norm": "layer"}, "does not support head_norm 'layer'"),
        ({"dtype": F64}, "float32, not float64"),
        ({"dtype": F16}, "float32, not float16"),
        ({"capability": None}, "torch sees no GPU"),
        ({"capability": (8, 0)}, None),
        ({"capability": (8, 0), "hidden_size": 97}, "needs hidden size <= 96 on 8.0"),
        ({"capability": (7, 2)}, "needs capability 7.5 or later, not 7.2"),
        ({"is_built": False}, "built without CUDA kernels"),
        ({"n_bytes": 3, "memory_bytes": 2}, "do not fit into GPU memory"),
        ({"n_bytes": 2, "memory_bytes": 2}, None),
    ],
)
def test_whole_training_steps_on_a_gpu_are_supported_or_the_gap_is_named(changes, gap):
    arguments = {"dtype": F32, "hidden_size": 32, "n_channels": 3, **HOPPER, **changes}
    computed = training_gap(arguments.pop("dtype"), **arguments)
    assert computed is None if gap is None else gap in computed
