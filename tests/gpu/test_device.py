"""Properties that only GPUs have: graphs, streams, several devices, and sizes beyond 2^31."""

import pytest
import torch
from layer_laws import Problem, Variant, assert_same_bits, infer, torch_precision
from torch.nn.functional import cross_entropy

from sensorseq import ops
from sensorseq.nn import LSTMLinear

HIDDEN_SIZES = (64, 128, 256)


def needs_memory(gigabytes):
    free, _ = torch.cuda.mem_get_info()
    if free < gigabytes * 2**30:
        pytest.skip(f"needs a GPU with {gigabytes} GiB free")


def step_of(module, x, y, lengths):
    def step():
        logits = module(x, lengths)
        loss = cross_entropy(logits.float(), y)
        return [logits.detach(), *torch.autograd.grad(loss, list(module.parameters()))]

    return step


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_captured_step_replays_on_new_data(gpu, hidden_size, precision, with_lengths):
    torch.manual_seed(0)
    module = LSTMLinear(6, hidden_size, 5, pooling="mean").to(gpu)
    x, y = torch.randn(33, 40, 6, device=gpu), torch.randint(0, 5, (33,), device=gpu)
    lengths = torch.full((33,), 40, device=gpu) if with_lengths else None
    step = step_of(module, x, y, lengths)
    with torch_precision(precision):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        for seed in (1, 2):
            torch.manual_seed(seed)
            x.copy_(torch.randn(33, 40, 6))
            y.copy_(torch.randint(0, 5, (33,)))
            if lengths is not None:
                lengths.copy_(torch.randint(0, 41, (33,)))
            for value in captured:
                value.fill_(torch.nan)
            graph.replay()
            assert_same_bits(captured, step(), f"seed {seed}")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("n_channels", [6, 17])
def test_a_step_never_waits_for_the_device(gpu, n_channels):
    module = LSTMLinear(n_channels, 64, 5).to(gpu)
    x = torch.randn(33, 40, n_channels, device=gpu)
    y = torch.randint(0, 5, (33,), device=gpu)
    step = step_of(module, x, y, torch.randint(0, 41, (33,), device=gpu))
    step()
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_streams_wait_for_their_own_inputs_and_share_nothing(gpu, hidden_size):
    problems = [Problem(Variant(hidden_size, lengths="mixed"), seed) for seed in range(4)]
    # x needs no gradient; otherwise torch would multiply x, and the bits might differ
    plain = [p.arguments(gpu, torch.float32, grad=False)["x"] for p in problems]
    wanted = [
        p.run(ops.lstm_linear, gpu, torch.float32, x=x)
        for p, x in zip(problems, plain, strict=True)
    ]
    given = [p.arguments(gpu, torch.float32) for p in problems]
    grads = [p.grad_logits.to(gpu, torch.float32) for p in problems]
    late = [torch.full_like(g["x"], torch.nan, requires_grad=False) for g in given]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in problems]
    for _ in range(3):
        results = []
        for arguments, grad, x, stream in zip(given, grads, late, streams, strict=True):
            with torch.cuda.stream(stream):
                x.fill_(torch.nan)
                torch.cuda._sleep(5_000_000)  # a kernel on another stream would read NaN
                x.copy_(arguments["x"].detach())
                logits, h_n, c_n = ops.lstm_linear(**{**arguments, "x": x}, pooling="last")
                weights = [arguments["weight_hh"], arguments["weight_out"]]
                of_weights = torch.autograd.grad(logits, weights, grad)
                results.append([logits.detach(), h_n.detach(), c_n.detach(), of_weights[1]])
                assert of_weights[0].shape == weights[0].shape
        for stream in streams:
            stream.synchronize()
        for one, other in zip(results, wanted, strict=True):
            names = ("logits", "h_n", "c_n", "grad_weight_out")
            assert_same_bits(one, [other[name] for name in names])


def test_the_current_device_is_kept_and_the_device_of_the_input_computes(gpu):
    problem = Problem(Variant(64))
    before = torch.cuda.current_device()
    wanted = infer(problem, gpu, torch.float32)
    assert torch.cuda.current_device() == before
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs for the rest")
    other = f"cuda:{1 - before}"
    results = infer(problem, other, torch.float32)
    assert torch.cuda.current_device() == before
    assert results[0].device == torch.device(other)
    assert_same_bits([f.cpu() for f in results], [w.cpu() for w in wanted])


def test_a_length_out_of_range_makes_only_its_own_row_nan(gpu):
    problem = Problem(Variant(64, lengths="mixed", pooling="mean"))
    clean = infer(problem, gpu, torch.float32)[0]
    problem.lengths[[3, 11]] = torch.tensor([-1, problem.variant.n_timesteps + 1])
    logits = infer(problem, gpu, torch.float32)[0]
    wrong = torch.zeros(problem.variant.n_windows, dtype=torch.bool)
    wrong[[3, 11]] = True
    assert logits[:, wrong].isnan().all()
    assert torch.equal(logits[:, ~wrong], clean[:, ~wrong])


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias"])
def test_a_weight_on_another_device_is_refused_by_name(gpu, name):
    arguments = Problem(Variant(32)).arguments(gpu, torch.float32, grad=False)
    arguments = {k: v for k, v in arguments.items() if not k.endswith("_out")}
    arguments[name] = arguments[name].cpu()
    with pytest.raises(RuntimeError, match=rf"{name} is not on cuda:\d+, but x is"):
        ops.lstm(**arguments)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_huge_weight_gives_nan_or_the_right_result_and_affects_no_other_model(gpu, precision):
    problem = Problem(Variant(64, n_models=3))
    with torch_precision(precision):
        clean = infer(problem, gpu, torch.float32)[0]
        problem.leaves["weight_hh"][1, 0, 5, 7] = 1e30
        logits = infer(problem, gpu, torch.float32)[0]
    wanted = infer(problem, "cpu", torch.float64)[0]
    assert torch.equal(logits[[0, 2]], clean[[0, 2]])
    error = (logits[1].cpu().double() - wanted[1]).norm() / wanted[1].norm()
    assert logits[1].isnan().any() or error < 1e-2


def test_more_than_2_to_the_31_inputs(gpu):
    needs_memory(30)
    n_windows, n_timesteps, n_channels = 2**17 + 8, 1025, 16
    assert n_windows * n_timesteps * n_channels > 2**31
    module = LSTMLinear(n_channels, 32, 3).to(gpu).eval()
    x = torch.randn(n_windows, n_timesteps, n_channels, device=gpu)
    with torch.no_grad():
        outputs = module(x)
        for rows in (slice(0, 8), slice(n_windows // 2, n_windows // 2 + 8), slice(-8, None)):
            assert torch.equal(outputs[rows], module(x[rows]))


@pytest.mark.parametrize(("hidden_size", "n_windows"), [(32, 65_600), (256, 8200)])
def test_more_than_2_to_the_31_hidden_states(gpu, hidden_size, n_windows):
    needs_memory(40)
    n_timesteps = 1025
    assert n_windows * n_timesteps * hidden_size > 2**31
    problem = Problem(Variant(hidden_size, 1, n_windows=8, n_timesteps=n_timesteps))
    arguments = problem.arguments(gpu, torch.float32, grad=False)
    weights = {name: arguments[name] for name in ("weight_ih", "weight_hh", "bias")}
    x = torch.randn(1, n_windows, n_timesteps, 1, device=gpu)
    with torch.no_grad():
        hidden, h_n, _ = ops.lstm(x, **weights)
        alone, h_alone, _ = ops.lstm(x[:, -8:], **weights)
        assert torch.equal(hidden[:, -8:], alone)
        assert torch.equal(h_n[:, -8:], h_alone)
        assert torch.equal(hidden[:, :, -1], h_n[:, :, 0])


# with 8 floats of saved state per unit and step at 32 units, and 6 at 256
@pytest.mark.parametrize(("hidden_size", "n_timesteps", "n_floats"), [(32, 1030, 8), (256, 350, 6)])
def test_more_than_2_to_the_31_saved_values(gpu, hidden_size, n_timesteps, n_floats):
    needs_memory(40)  # twice the saved state, because the gates' gradients are stored separately
    n_windows = 8192
    assert n_windows * n_timesteps * n_floats * hidden_size > 2**31
    torch.manual_seed(5)
    module = LSTMLinear(1, hidden_size, 5).to(gpu)
    x = torch.randn(n_windows, n_timesteps, 1, device=gpu)
    y = torch.randint(0, 5, (n_windows,), device=gpu)
    with torch_precision("float32"):
        logits, *whole = step_of(module, x, y, None)()
        torch.cuda.empty_cache()
        parts = [
            step_of(module, of_x, of_y, None)()
            for of_x, of_y in zip(x.split(1024), y.split(1024), strict=True)
        ]
    assert torch.equal(logits, torch.cat([part[0] for part in parts]))
    for index, grad in enumerate(whole):
        wanted = torch.stack([part[index + 1].double() for part in parts]).mean(0)
        assert (grad - wanted).norm() <= 1e-4 * wanted.norm()
