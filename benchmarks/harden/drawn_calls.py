"""Calls the native libraries with arguments drawn by hypothesis, some of which are spoiled.

`python benchmarks/harden/drawn_calls.py --seconds 60 [--threads 2]`. A call may return or raise,
but must not crash; the sanitizer around this process reports crashes (`sanitizers.py`). The last
line of the output gives the numbers of calls as JSON.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st
from mutations import mutate_json
from scipy.signal import butter

from sensorseq import SensorLSTMClassifier, _signal
from sensorseq.errors import SensorseqError
from sensorseq.features import RandomConvolutions
from sensorseq.io import model_file
from sensorseq.ops import train_epoch as epochs
from sensorseq.prediction.loading import load

# 2**20 is left out, because 2**20 channels or outputs per sample are accepted but need gigabytes
ODD_INTEGERS = (-(2**62), -1, 0, 1, 2, 3, 7, 2**12, 2**31, 2**62)
ODD_FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-300, 1e300)
counts: Counter = Counter()


def tensors(rng, n, t, c, h, k):
    """Return the arguments of the LSTM operators, by name."""
    dtype = rng.choice((torch.float32, torch.float64))
    d, m = rng.choice((1, 2)), rng.choice((1, 1, 2))

    pooling = rng.choice(("last", "mean", "max", "meanmax"))
    pooled = d * h * (2 if pooling == "meanmax" else 1)

    def normal(*shape):
        return 0.3 * torch.randn(shape, dtype=dtype)

    return {
        "x": normal(rng.choice((1, m)), n, t, c),
        "lengths": rng.choice((None, torch.randint(0, t + 1, (n,)))),
        "weight_ih": normal(m, d, 4 * h, c),
        "weight_hh": normal(m, d, 4 * h, h),
        "bias": normal(m, d, 4 * h),
        "h_0": rng.choice((None, normal(m, n, d, h))),
        "c_0": rng.choice((None, normal(m, n, d, h))),
        "recurrent_mask": rng.choice((None, normal(m, n, d, h))),
        "weight_out": normal(m, k, pooled),
        "bias_out": normal(m, k),
        "class_index": torch.randint(0, k, (1, n)),
        "sample_weight": rng.choice((None, torch.rand(1, n, dtype=dtype))),
        "pooling": pooling,
        "loss": rng.choice(("cross_entropy", "focal")),
        "label_smoothing": 0.1,
        "save_state": True,
        "needs_grad": rng.random() < 0.9,
        "precision": "",
        "needs_grad_x": rng.random() < 0.5,
    }


def spoil(rng, value):
    """Return a value with a different shape, type, layout or size, or an extreme value."""
    if isinstance(value, torch.Tensor):
        if value.ndim and rng.random() < 0.25:
            return spoil_layout(rng, value)
        return torch.from_numpy(np.ascontiguousarray(spoil(rng, value.detach().numpy())))
    if not isinstance(value, np.ndarray):
        if isinstance(value, str):
            return rng.choice(("", "no such", "max", "mean", "adam", "\0"))
        return rng.choice((*ODD_INTEGERS, *ODD_FLOATS, None, "mean"))
    kind = rng.randrange(8)
    if kind == 0:
        return value.astype(
            rng.choice((np.float32, np.float64, np.int32, np.int64, np.uint8, bool))
        )
    if kind == 1 and value.ndim:
        axis = rng.randrange(value.ndim)
        return np.take(value, range(rng.randrange(value.shape[axis] + 1)), axis=axis)
    if kind == 2 and value.ndim:
        return np.concatenate([value, value], axis=rng.randrange(value.ndim))
    if kind == 3:
        return value.reshape(-1)
    if kind == 4:
        return value[None]
    if kind == 5:
        return value.T
    if kind == 6 and value.size:
        changed = value.copy()
        odd = ODD_INTEGERS if value.dtype.kind in "iu" else ODD_FLOATS
        with np.errstate(all="ignore"):
            changed.reshape(-1)[rng.randrange(value.size)] = np.array(rng.choice(odd)).astype(
                value.dtype
            )
        return changed
    return np.zeros(tuple(rng.choice((0, 1, 2, 5)) for _ in range(rng.randrange(5))), value.dtype)


def spoil_layout(rng, value):
    """Return a transposed tensor, or an empty tensor with a large shape."""
    axis, size = rng.randrange(value.ndim), rng.choice((2, 2**20, 2**40, 2**62))
    if rng.random() < 0.5:
        return value.transpose(0, axis)
    shape = list(value.shape)
    shape[axis] = size
    shape[rng.randrange(value.ndim)] = 0
    with contextlib.suppress(RuntimeError):  # the shape may be larger than torch allows
        return value.new_empty(shape)
    return value.new_empty(0)


def call(rng, function, arguments, n_spoiled):
    """Call a function with some arguments spoiled; return the result, or None if it raised."""
    arguments = dict(arguments)
    for name in rng.sample(list(arguments), min(n_spoiled, len(arguments))):
        arguments[name] = spoil(rng, arguments[name])
    name = getattr(function, "__name__", str(function))
    try:
        result = function(**arguments)
    except Exception as error:
        counts[f"{name} refused"] += 1
        if n_spoiled == 0:
            counts[f"{name} refused when right"] += 1
            if counts[f"{name} refused when right"] == 1:
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    counts[f"{name} done"] += 1
    return result


def arguments_for(operator, values):
    """Return an operator's arguments: the values whose names are in its schema."""
    schema = operator.default._schema
    return {a.name: values[a.name] for a in schema.arguments if a.name in values}


def lstm(rng, n_spoiled):
    """Call a layer forward and backward, the loss and a stream."""
    ops = torch.ops.sensorseq
    n, t, c, h, k = (rng.choice(s) for s in ((0, 1, 5, 17), (1, 2, 9), (1, 3), (1, 4, 19), (2, 3)))
    v = tensors(rng, n, t, c, h, k)
    outputs = call(rng, ops.lstm_linear, arguments_for(ops.lstm_linear, v), n_spoiled)
    if outputs is not None and len(outputs) == 5 and v["x"].shape[0]:
        logits, h_n, _, pooled, saved = outputs
        v |= {"grad_logits": torch.randn_like(logits), "pooled": pooled, "saved": saved}
        v |= {"grad_h_n": torch.randn_like(h_n), "grad_c_n": None}
        call(rng, ops.lstm_linear_backward, arguments_for(ops.lstm_linear_backward, v), n_spoiled)
    outputs = call(rng, ops.lstm, arguments_for(ops.lstm, v), n_spoiled)
    if outputs is not None:
        v |= {"grad_hidden": torch.randn_like(outputs[0]), "saved": outputs[3]}
        v |= {"grad_h_n": None, "grad_c_n": torch.randn_like(outputs[2])}
        call(rng, ops.lstm_backward, arguments_for(ops.lstm_backward, v), n_spoiled)
    call(rng, ops.lstm_linear_loss, arguments_for(ops.lstm_linear_loss, v), n_spoiled)
    layer = {name: v[name][:1, :1].contiguous() for name in ("weight_ih", "weight_hh", "bias")}
    packed = call(rng, ops.lstm_pack, layer, n_spoiled)
    if packed is not None:
        zeros = {name: torch.zeros(n, h, dtype=v["x"].dtype) for name in ("h", "c")}
        x = v["x"][0]
        call(rng, ops.lstm_stream, {"x": x, "packed": packed, **zeros}, n_spoiled)
        head = {"weight_out": v["weight_out"][0, :, :h].contiguous(), "bias_out": v["bias_out"][0]}
        call(rng, ops.lstm_linear_stream, {"x": x, "packed": packed, **head, **zeros}, n_spoiled)


def training(rng, n_spoiled):
    """Run steps of the epoch engine with spoiled arguments of `EpochTrainer`."""
    n, t, c, h, k = (rng.choice(s) for s in ((4, 17), (2, 9), (1, 3), (1, 4), (2, 3)))
    pooling, norm = rng.choice(("last", "meanmax")), rng.choice(("none", "batch", "layer"))
    is_bidirectional, n_models = rng.random() < 0.3, rng.choice((1, 2))
    network = epochs.NetworkLayout(c, h, k, rng.choice((1, 2)), is_bidirectional, pooling, norm)
    dtype = rng.choice((torch.float32, torch.float64))
    drops = dict.fromkeys(("dropout", "recurrent_dropout"), rng.choice((0.0, 0.3)))
    bound = rng.choice((0.1, float("inf")))
    used = rng.randrange(1, t + 1)
    trainer = epochs.EpochTrainer(
        network,
        0.3 * torch.randn(n_models, network.n_parameters, dtype=dtype),
        torch.randn(n, t, c, dtype=dtype),
        torch.randint(0, k, (n,)),
        epochs.make_hyper(n_models, **drops, max_grad_norm=bound, ema_decay=0.9),
        lengths=rng.choice((None, torch.randint(1, t + 1, (n,)))),
        weight=rng.choice((None, torch.rand(n, dtype=dtype))),
        loss=rng.choice(("cross_entropy", "focal")),
        optimizer=rng.choice(("adam", "adamw", "rmsprop", "sgd")),
        seeds=range(n_models),
        average=rng.random() < 0.5,
        n_timesteps=used,
    )
    rows, offsets = torch.randperm(n)[None], torch.tensor([[0, n // 2, n]])
    rows, offsets = (v.expand(trainer.n_models, -1).contiguous() for v in (rows, offsets))
    statistics = torch.zeros(trainer.n_models, 2, len(epochs.STATISTIC_COLUMNS)).double()
    rates = torch.full((trainer.n_models, 2), 0.01, dtype=torch.float64)
    crops = torch.randint(0, t - used + 1, rows.shape)
    lanes = rng.randrange(1, n_models + 1)
    margins = rng.choice((None, torch.zeros(rows.shape, dtype=dtype)))
    held = trainer._native_arguments(
        (rows, offsets, crops), rates, trainer._seeds, (statistics, margins), n - n // 2, lanes
    )
    names = [a.name for a in torch.ops.sensorseq.train_epoch.default._schema.arguments]
    arguments = dict(zip(names, (*held, 0, 2, lanes, False), strict=True))
    call(rng, torch.ops.sensorseq.train_epoch, arguments, n_spoiled)
    names = torch.ops.sensorseq.train_epoch_check.default._schema.arguments
    sizes = {"n_data_timesteps": t, "n_classes": k, "n_timesteps": used, "max_batch": n}
    check = {a.name: ({**arguments, **sizes})[a.name] for a in names}
    call(rng, torch.ops.sensorseq.train_epoch_check, check, n_spoiled)
    ops = torch.ops.sensorseq
    sizes |= {"n_channels": c, "n_lanes": lanes, "real_bytes": dtype.itemsize}
    counted = arguments_for(ops.train_epoch_workspace_bytes, {**arguments, **sizes})
    call(rng, ops.train_epoch_workspace_bytes, counted, n_spoiled)
    facts = {**arguments, **sizes, "tensor": "hyper", "is_projected": False}
    for operator in (ops.train_epoch_columns, ops.cuda_trains, ops.cuda_is_served, ops.cuda_facts):
        call(rng, operator, arguments_for(operator, facts), n_spoiled)
    for operator in (ops.cpu_isa, ops.cpu_isas):
        call(rng, operator, {}, 0)
    call(rng, ops.multiply_add_flops, {"repeats": 10, "n_tasks": rng.randrange(1, 4)}, 0)


def signals(rng, n_spoiled):
    """Call the native preprocessing loops."""
    n, t, c = rng.choice((1, 6)), rng.choice((9, 40)), rng.choice((1, 2, 5))
    draw = np.random.default_rng(rng.randrange(2**32))
    dtype = rng.choice((np.float32, np.float64))
    x = draw.normal(size=(n, t, c)).astype(dtype)
    lengths = rng.choice((None, draw.integers(0, t + 1, n)))
    scales = {"center": np.zeros(c), "scale": np.ones(c)}
    out = np.empty((n, t, c), np.float32)
    starts = draw.integers(0, t, n)
    signal = draw.normal(size=(3 * t, c)).astype(dtype)
    gather = {"values": signal, "starts": starts, "lengths": lengths, **scales, "out": out}
    call(rng, _signal.gather_windows, gather, n_spoiled)
    scale = {"x": x, "lengths": lengths, **scales, "inverse": False, "out": out}
    call(rng, _signal.scale_windows, scale, n_spoiled)
    call(rng, _signal.all_finite, {"x": x}, n_spoiled)
    too_large = np.broadcast_to(x[:1, :1], (2**24, 2**24, c))  # a view too large to copy
    for function in (_signal.all_finite, _signal.Moments(c).add):
        with contextlib.suppress(MemoryError):
            function(too_large)
    moments = call(rng, _signal.Moments, {"n_channels": c}, 0)
    from_two_threads(moments.add, x, lengths)
    call(rng, moments.add, {"x": x, "lengths": lengths}, n_spoiled)
    moments.summarize()
    text = bytes(draw.choice(list(b'0123456789.,,-+e \n\r\tnaN"\x00'), 80).astype(np.uint8))
    wanted = [rng.random() < 0.7 for _ in range(rng.randrange(4))]
    call(rng, _signal.read_numbers, {"text": text, "start": 0, "wanted": wanted}, n_spoiled)
    plan = RandomConvolutions(n_features=168, random_state=0)
    learned = plan.fit(draw.normal(size=(4, t, c)).astype(np.float32)).state()["arrays"]
    call(rng, _signal.check_convolutions, {**learned, "n_channels": c}, n_spoiled)
    shares = {"x": x.astype(np.float32), "lengths": lengths, **learned, "n_threads": 2}
    call(rng, _signal.share_above_biases, shares, n_spoiled)
    kept = {name: learned[name][:84] for name in ("channel_counts",)}
    kept["channel_indices"] = learned["channel_indices"][: int(kept["channel_counts"].sum())]
    rows = draw.integers(0, n, 84)
    convolution = {"x": shares["x"], "lengths": lengths, "rows": rows, "dilation": 1, **kept}
    call(rng, _signal.convolve_windows, convolution, n_spoiled)
    whole = draw.integers(1, t + 1, n)
    strength = dict.fromkeys(
        ("jitter", "scaling", "time_warp", "magnitude_warp", "window_shift", "offset"), 0.1
    ) | {"rotation_deg": 20.0}
    change = {"x": x.copy(), "lengths": whole, "indices": np.arange(n), "copies": np.zeros(n, int)}
    change |= {"seed": 3, "strength": strength, "spline": draw.normal(size=(4, 3, 4))}
    change |= {"mirror_order": np.arange(c)[::-1].copy(), "mirror_sign": np.ones(c)}
    change |= {"axes": draw.permutation(c)[: c // 3 * 3].reshape(-1, 3)}
    change |= {"channel_sd": np.ones(c), "n_threads": 2}
    change |= {name: rng.choice((None, x[:, :3].astype(float))) for name in ("before", "after")}
    call(rng, _signal.augment, change, n_spoiled)
    filters(rng, n_spoiled, signal, c)


def filters(rng, n_spoiled, signal, c):
    """Push a signal through the stateful filters."""
    edge = rng.choice(("mirror", "hold", "odd"))
    up, down = rng.choice((1, 3)), rng.choice((1, 2, 5))
    polyphase = {"taps": np.hanning(31), "up": up, "down": down, "n_channels": c, "edge": edge}
    polyphase["delay"] = rng.choice((None, 0, 15, 30)) if edge == "hold" else None
    table = {"taps": np.hanning(63), "n_phases": 8, "ratio": 0.7, "n_channels": c, "edge": edge}
    moving = {"statistic": "std", "window_samples": 5, "n_channels": c, "ahead_samples": 1}
    moving["statistic"] = rng.choice(("mean", "std", "min", "range", "line_residual"))
    made = ((_signal.PolyphaseFilter, polyphase), (_signal.TableFilter, table))
    sections = {"sections": butter(rng.choice((1, 4)), 0.3, output="sos"), "n_channels": c}
    rows = ((_signal.MovingWindow, moving), (_signal.SectionFilter, sections))
    for kind, arguments in (*made, *rows):
        is_spoiled = n_spoiled > 0 and rng.random() < 0.5
        signal_filter = call(rng, kind, arguments, n_spoiled if is_spoiled else 0)
        if signal_filter is None:
            continue
        name = "x" if hasattr(signal_filter, "push_last") else "samples"
        flush = getattr(signal_filter, "flush", lambda: None)
        values = signal if name == "x" else signal.astype(float)
        for _ in range(2):
            part = values[: rng.randrange(len(values) + 1)]
            call(rng, signal_filter.push, {name: part}, n_spoiled)
        flush()
        if is_spoiled:
            continue
        from_two_threads(signal_filter.push, values)
        flush()
        signal_filter.push(values[: rng.randrange(4)])  # begins the next signal
        if name == "x":
            call(rng, signal_filter.push_last, {"x": values}, n_spoiled)
            signal_filter.reset()
            assert signal_filter.n_channels == c
            assert signal_filter.latency_samples >= 0
            assert signal_filter.isa


@cache
def trained():
    """Return the arrays and description of a model with features and several networks."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 9, 2)).astype(np.float32), np.arange(40) % 2
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.safetensors"
        fitted = SensorLSTMClassifier(hidden_size=5, max_epochs=2, n_models=2, random_state=0)
        fitted.fit(X, y, groups=np.arange(40) // 2).save(path)
        arrays, description = model_file.read_model(path)
    return arrays, json.dumps(model_file.to_jsonable(description)).encode()


def models(rng, n_spoiled):
    """Load a model file with a changed description or array, and predict."""
    arrays, text = trained()
    arrays = dict(arrays)
    for _ in range(n_spoiled):
        name = rng.choice(list(arrays))
        if rng.random() < 0.7:
            text = mutate_json(rng, text)
        elif rng.random() < 0.5:
            arrays[name] = np.ascontiguousarray(spoil(rng, arrays[name]))
        else:
            arrays[name] = arrays[rng.choice(list(arrays))]
    X = np.random.default_rng(rng.randrange(99)).normal(size=(rng.choice((1, 9)), 9, 2))
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(model_file.pack(arrays, text.decode(errors="replace")))
        file.flush()
        name = "models"
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(file.name).predict(X)
        except SensorseqError:
            counts[f"{name} refused"] += 1
            counts[f"{name} when right"] += not n_spoiled
        else:
            counts[f"{name} done"] += 1


def from_two_threads(function, *arguments):
    """Call a stateful function from two threads simultaneously."""
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(function, *arguments) for _ in range(2)]:
            future.result()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    until = time.monotonic() + options.seconds

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=1_000_000,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        st.randoms(use_true_random=True), st.sampled_from((0, 1, 1, 1, 2)), st.integers(0, 3)
    )
    def draw(rng, n_spoiled, subject):
        if time.monotonic() > until:
            raise KeyboardInterrupt  # hypothesis has no time limit
        function = (lstm, training, signals, models)[subject]
        if options.threads == 1:
            function(rng, n_spoiled)
            return
        with ThreadPoolExecutor(options.threads) as pool:
            for future in [pool.submit(function, rng, n_spoiled) for _ in range(options.threads)]:
                future.result()

    with contextlib.suppress(KeyboardInterrupt):
        draw()
    calls = {k: v for k, v in counts.items() if k.endswith((" done", " refused"))}
    unexpected = {k: v for k, v in counts.items() if k.endswith("when right")}
    print(json.dumps({"calls": sum(calls.values()), "of": calls, "unexpected": unexpected}))


if __name__ == "__main__":
    main()
