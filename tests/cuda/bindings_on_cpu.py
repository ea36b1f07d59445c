"""Checks the library of bindings_on_cpu.cpp; test_bindings.py runs this script in a new process."""

import itertools
import json
import sys
import unittest.mock

import torch

from sensorseq import ops
from sensorseq.ops import reference
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper

torch.ops.load_library(sys.argv[1])
gpu = torch.ops.gpu_on_cpu
M, N, T, C, H, K = 2, 9, 5, 3, 6, 4


def arguments(n_directions=2, *, shared_x=False, lengths=True, states=True, n_channels=C):
    """Draw the arguments of a layer, in float32; the lengths include 0 and T."""
    D = n_directions

    def draw(*shape):
        return 0.5 * torch.randn(*shape)

    return {
        "x": draw(1 if shared_x else M, N, T, n_channels),
        "lengths": torch.tensor([5, 0, 1, 2, 3, 4, 5, 5, 2]) if lengths else None,
        "weight_ih": draw(M, D, 4 * H, n_channels),
        "weight_hh": draw(M, D, 4 * H, H),
        "bias": draw(M, D, 4 * H),
        "h_0": draw(M, N, D, H) if states else None,
        "c_0": draw(M, N, D, H) if states else None,
        "recurrent_mask": torch.rand(M, N, D, H).round() * 2 if states else None,
    }


def head(pooling, n_directions):
    P = ops.pooled_size(pooling, H, n_directions)
    return {"weight_out": torch.randn(M, K, P), "bias_out": torch.randn(M, K)}


def project(a):
    """Express the same layer with a projected x (x W_ih^T + bias), whose last axis is the gates."""
    D = a["weight_hh"].shape[1]
    gates = torch.einsum("mntc,mdrc->mntdr", a["x"].expand(M, -1, -1, -1), a["weight_ih"])
    gates = (gates + a["bias"][:, None, None]).unflatten(-1, (4, H)).transpose(-1, -2)
    x = gates.reshape(M, N, T, D * 4 * H).contiguous()
    return {**a, "x": x, "weight_ih": a["weight_ih"][..., :0].contiguous()}


def unproject(grad):
    """Order the gradients of projected gates like the rows of weight_ih: (M, N, T, D, 4H)."""
    return grad.unflatten(-1, (-1, H, 4)).transpose(-1, -2).flatten(-2)


def exact(a):
    """Return the same arguments in float64, with gradients enabled."""
    wide = {k: v.double() if v is not None and k != "lengths" else v for k, v in a.items()}
    for name, value in wide.items():
        if value is not None and name not in ("lengths", "recurrent_mask"):
            value.requires_grad_()
    return wide


def assert_close(ours, expected, what):
    torch.testing.assert_close(
        ours.double(), expected, rtol=1e-5, atol=1e-5, msg=lambda m: what + m
    )


def check_layer(n_directions, shared_x, lengths, states, projected, precision):
    a = arguments(n_directions, shared_x=shared_x, lengths=lengths, states=states)
    wide = exact(a)
    call = project(a) if projected else a
    hidden, h_n, c_n, saved = gpu.lstm(*call.values(), True, precision)
    expected = reference.lstm(*wide.values())
    for name, ours, truth in zip(
        ("hidden", "h_n", "c_n"), (hidden, h_n, c_n), expected, strict=True
    ):
        assert_close(ours, truth, name)
    of_window = (N, T * 8 + 1, 32) if precision == "fp32" else (2, T * 12 + 2, 4 * 64)
    assert saved.shape == (M, n_directions, *of_window)
    grads = [torch.randn_like(t) for t in (hidden, h_n, c_n)]
    back = gpu.lstm_backward(*grads, *call.values(), saved, projected, precision)
    names = [n for n in ("x", "weight_ih", "weight_hh", "bias", "h_0", "c_0") if a[n] is not None]
    truth = torch.autograd.grad(expected, [wide[n] for n in names], [g.double() for g in grads])
    check_gradients(dict(zip(names, truth, strict=True)), back, a, projected)
    assert gpu.lstm(*call.values(), False, precision)[3].shape == (0,)


def in_dtype(value, dtype):
    return value if value is None or not value.is_floating_point() else value.to(dtype)


def check_portable(n_directions, pooling, projected, dtype):
    a, of_head = arguments(n_directions), head(pooling, n_directions)
    a, of_head = (
        {name: in_dtype(value, dtype) for name, value in part.items()} for part in (a, of_head)
    )
    layer = project(a) if projected else a
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]

    def check(results, expected):
        for ours, truth in zip(results, expected, strict=True):
            assert ours.dtype == dtype
            torch.testing.assert_close(
                ours.double(), truth.detach(), rtol=tolerance, atol=tolerance
            )

    *results, saved = gpu.lstm(*layer.values(), False, "fp32")
    assert saved.shape == (0,)
    check(results, reference.lstm(*exact(a).values()))

    def ordered(x, lengths, w_ih, w_hh, bias, *states):
        return x, lengths, w_ih, w_hh, bias, *of_head.values(), *states

    results = gpu.lstm_linear(*ordered(*layer.values()), pooling, False, "fp32")
    of_head = exact(of_head)
    check(results[:3], reference.lstm_linear(*ordered(*exact(a).values()), pooling))


def check_linear(n_directions, pooling, states, projected, precision):
    a, of_head = arguments(n_directions, states=states), head(pooling, n_directions)
    layer = project(a) if projected else a

    def ordered(a, of_head):
        x, lengths, w_ih, w_hh, bias, *rest = a.values()
        return [x, lengths, w_ih, w_hh, bias, *of_head.values(), *rest]

    wide, wide_head = exact(a), exact(of_head)
    logits, h_n, c_n, pooled, saved = gpu.lstm_linear(
        *ordered(layer, of_head), pooling, True, precision
    )
    expected = reference.lstm_linear(*ordered(wide, wide_head), pooling)
    for name, ours, truth in zip(
        ("logits", "h_n", "c_n"), (logits, h_n, c_n), expected, strict=True
    ):
        assert_close(ours, truth, name)
    grads = [torch.randn_like(t) for t in (logits, h_n, c_n)]
    call = ordered(layer, of_head)
    del call[6]  # bias_out
    back = gpu.lstm_linear_backward(*grads, *call, pooled, saved, pooling, projected, precision)
    every = {**wide, **wide_head}
    names = ["x", "weight_ih", "weight_hh", "bias", "weight_out", "bias_out", "h_0", "c_0"]
    names = [n for n in names if every[n] is not None]
    truth = dict(
        zip(
            names,
            torch.autograd.grad(expected, [every[n] for n in names], [g.double() for g in grads]),
            strict=True,
        )
    )
    check_gradients(truth, [*back[:4], *back[6:]], a, projected)
    assert_close(back[4], truth["weight_out"], "grad_weight_out")
    assert_close(back[5], truth["bias_out"], "grad_bias_out")


def check_gradients(truth, back, a, projected):
    grad_x, grad_ih, grad_hh, grad_bias, grad_h_0, grad_c_0 = back
    if projected:
        gates = unproject(grad_x).double()
        x = a["x"].double().expand(M, -1, -1, -1)
        assert_close(torch.einsum("mntdr,mntc->mdrc", gates, x), truth["weight_ih"], "by hand")
        assert_close(gates.sum((1, 2)), truth["bias"], "by hand")
        assert grad_ih.numel() == 0
        assert not grad_bias.any()
    else:
        assert grad_x.shape == (0,)
        assert_close(grad_ih, truth["weight_ih"], "grad_weight_ih")
        assert_close(grad_bias, truth["bias"], "grad_bias")
    assert_close(grad_hh, truth["weight_hh"], "grad_weight_hh")
    for name, grad in (("h_0", grad_h_0), ("c_0", grad_c_0)):
        if a[name] is None:
            assert grad.shape == (0,)
        else:
            assert_close(grad, truth[name], "grad_" + name)


def check_errors():
    def sentence(call, *values):
        try:
            call(*values)
        except RuntimeError as error:
            assert gpu.guards_held() == 0, "a guard was left"
            return str(error)
        raise AssertionError("no error")

    a = arguments()
    cases = [
        ({"x": a["x"].double()}, "weight_hh has another dtype"),
        ({k: v.double() for k, v in a.items() if k != "lengths"}, "on a GPU x must be float32"),
        ({"lengths": a["lengths"].int()}, "lengths has another dtype; expected int64"),
        ({"weight_hh": torch.zeros(M, 2, 24, 7)}, "weight_hh has shape (2, 2, 24, 7)"),
        ({"h_0": torch.zeros(M, N, 2, H + 1)}, "h_0 has shape"),
        ({"weight_ih": torch.zeros(M, 2, 24, 0)}, "(2, 9, 5, 3); expected (2, 9, 5, 48)"),
        (arguments(n_channels=17), "x has more channels than the CUDA kernels multiply"),
        ({**project(a), "x": project(a)["x"][:1]}, "x holds 1 models; expected 2"),
    ]
    for changed, expected in cases:
        told = sentence(gpu.lstm, *{**a, **changed}.values(), True, "fp16x3")
        assert expected in told, told
    told = sentence(gpu.lstm, *a.values(), False, "fp8")
    assert "precision 'fp8' is not known. Known: fp32, fp16x3, fp16." in told, told
    half = {name: in_dtype(value, torch.float16) for name, value in a.items()}
    told = sentence(gpu.lstm, *half.values(), False, "fp16")
    assert "on a GPU x must be float32" in told, told
    told = sentence(gpu.lstm, *half.values(), True, "fp32")
    assert "on a GPU x must be float32" in told, told
    told = sentence(gpu.lstm, *{**half, "bias": a["bias"]}.values(), False, "fp32")
    assert "bias has another dtype; expected float16" in told, told
    _, _, _, saved = gpu.lstm(*a.values(), True, "fp16x3")
    grads = [torch.zeros(M, N, T, 2 * H), None, None]
    told = sentence(gpu.lstm_backward, *grads, *a.values(), saved, True, "fp16x3")
    assert "on a GPU x has a gradient only where it is projected" in told, told
    told = sentence(
        gpu.lstm_backward, *grads, *a.values(), saved[..., :1].contiguous(), False, "fp16x3"
    )
    assert "saved has shape" in told, told
    told = sentence(gpu.lstm_backward, *grads, *a.values(), saved, False, "fp16")
    assert "another saved than" in told, told
    gpu.fail_next(False)
    told = sentence(gpu.lstm, *a.values(), True, "fp16x3")
    assert "a call of CUDA failed: the device is on fire." in told, told
    gpu.fail_next(True)
    told = sentence(gpu.lstm, *a.values(), True, "fp16x3")
    assert told.startswith("sensorseq: this GPU cannot run clusters of as many blocks"), told


def check_training():
    torch.set_num_threads(1)

    def trained(op, precision="fp16x3", changes=(), **options):
        """Run training steps with an op; return the arrays that the op wrote."""
        seen = []
        trainer = EpochTrainer(
            NetworkLayout(C, H, K, pooling="mean", **options.pop("network", {})),
            0.3 * torch.randn(M, options.pop("size"), generator=torch.Generator().manual_seed(1)),
            torch.randn(N, T, C, generator=torch.Generator().manual_seed(2)),
            torch.arange(N) % K,
            make_hyper(M, dropout=[0.1, 0.2], recurrent_dropout=0.3, ema_decay=0.9),
            lengths=torch.tensor([5, 0, 1, 2, 3, 4, 5, 5, 2]),
            weight=torch.rand(N, generator=torch.Generator().manual_seed(3)),
            seeds=[3, 4],
            average=True,
            n_timesteps=4,
        )

        def call(*arguments):
            arguments = [*arguments[:-1], precision]
            for place, value in changes:
                arguments[place] = value
            seen.append(arguments)
            gpu.expect_fp16(precision == "fp16")
            return op(*arguments)

        with unittest.mock.patch.object(torch.ops.sensorseq, "train_epoch", call):
            told = trainer.run(
                torch.arange(2 * N).reshape(M, N) % N,
                torch.tensor([[0, 4, 4, 9], [0, 2, 7, 9]]),
                torch.tensor([0.1, 0.01, 0.02]),
                crop_starts=torch.arange(2 * N).reshape(M, N) % 2,
                margins=True,
            )
        state = (trainer.parameters, trainer.state, trainer.average, trainer.step_count)
        return (*state, told.values, told.margins)

    size = NetworkLayout(C, H, K, pooling="mean").n_parameters
    on_cpu = torch.ops.sensorseq.train_epoch
    for precision in precisions:
        ours = trained(gpu.train_epoch, precision, size=size)
        theirs = trained(lambda *a: on_cpu(*a[:-1]), precision, size=size)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)

    def sentence(**options):
        try:
            trained(gpu.train_epoch, **{"size": size, **options})
        except RuntimeError as error:
            assert gpu.guards_held() == 0, "a guard was left"
            return str(error)
        raise AssertionError("no error")

    two = NetworkLayout(C, H, K, num_layers=2, pooling="mean").n_parameters
    told = sentence(size=two, network={"num_layers": 2})
    assert "no CUDA kernel of this build serves the shape" in told, told
    told = sentence(changes=[(0, torch.zeros(1, N, T, C, dtype=torch.float64))])
    assert "on a GPU x must be float32" in told, told
    told = sentence(changes=[(4, torch.zeros(M, N, dtype=torch.int32))])
    assert "rows has another dtype" in told, told
    told = sentence(changes=[(15, torch.zeros(M, 2, 10, dtype=torch.float64))])
    assert "statistics has shape" in told, told
    gpu.fail_next(False)
    told = sentence()
    assert "a call of CUDA failed: the device is on fire." in told, told
    assert gpu.cuda_trains(16, 256, 1, 2, "none", "fp16x3") == ""
    assert "hidden_size" in gpu.cuda_trains(16, 257, 1, 2, "none", "fp16x3")
    assert "hidden_size" in gpu.cuda_trains(16, 257, 1, 2, "none", "fp16")
    assert "project" in gpu.cuda_trains(17, 64, 1, 1, "none", "fp16x3")
    assert "serves the shape" in gpu.cuda_trains(3, 64, 2, 1, "none", "fp16x3")
    assert "serves the shape" in gpu.cuda_trains(3, 64, 1, 1, "layer", "fp16x3")
    assert gpu.cuda_trains(3, 96, 1, 1, "none", "fp32") == ""
    assert "hidden_size" in gpu.cuda_trains(3, 97, 1, 1, "none", "fp32")


def check_facts():
    facts = json.loads(gpu.cuda_facts())
    assert facts["built"] is True
    assert (facts["driver"], facts["runtime"]) == (13010, 13000)
    assert [d["n_multiprocessors"] for d in facts["devices"]] == [132, 133]
    assert gpu.cuda_is_served(256, 16, 2, "fp16x3", False) == ""
    assert "hidden_size" in gpu.cuda_is_served(257, 16, 2, "fp16x3", False)
    assert "hidden_size" in gpu.cuda_is_served(257, 16, 2, "fp16", False)
    assert gpu.cuda_is_served(96, 16, 2, "fp32", False) == ""
    assert "hidden_size" in gpu.cuda_is_served(97, 16, 2, "fp32", False)
    assert "project" in gpu.cuda_is_served(64, 17, 1, "fp16x3", False)
    assert gpu.cuda_is_served(64, 17, 1, "fp16x3", True) == ""


torch.manual_seed(0)
booleans = (False, True)
precisions = ("fp32", "fp16x3", "fp16")
for case in itertools.product((1, 2), *[booleans] * 4, precisions):
    check_layer(*case)
for case in itertools.product((1, 2), ops.POOLINGS, booleans, booleans, precisions):
    check_linear(*case)
dtypes = (torch.float32, torch.float16, torch.bfloat16)
for case in itertools.product((1, 2), ops.POOLINGS[::3], booleans, dtypes):
    check_portable(*case)
check_errors()
check_training()
check_facts()
assert gpu.guards_held() == 0
print("all passed")
