"""Laws of the epoch engine; tests/training/test_native_engine.py compares it with torch."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_calls import OpCalls
from threads import torch_threads

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import train_epoch
from sensorseq.ops.train_epoch import (
    HYPER_COLUMNS,
    STATISTIC_COLUMNS,
    EpochTrainer,
    NetworkLayout,
    dropout_mask,
    make_hyper,
    n_lanes,
    pack_batches,
)

N, T, C, K, M = 31, 8, 2, 3, 3
NETWORK = NetworkLayout(
    C, 9, K, num_layers=2, bidirectional=True, pooling="meanmax", head_norm="batch"
)
HYPER = {
    "max_grad_norm": [0.3, 1.0, math.inf],
    "weight_decay": [0.0, 0.01, 0.1],
    "beta1": [0.9, 0.5, 0.7],
    "dropout": [0.0, 0.2, 0.4],
    "recurrent_dropout": [0.3, 0.0, 0.1],
    "label_smoothing": [0.1, 0.0, 0.2],
    "ema_decay": [0.9, 0.5, 0.99],
}
SEEDS = [11, -4, 2**62]


def draw(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def make_data(dtype=torch.float32):
    class_index = (draw(N, seed=1) * 2).long() % K
    return {
        "x": draw(N, T, C, seed=3, dtype=dtype) + class_index[:, None, None],
        "class_index": class_index,
        "lengths": (draw(N, seed=4).abs() * 5).long().clamp(0, T),
        "weight": draw(M, N, seed=5, dtype=dtype).abs(),
    }


def make_trainer(models=range(M), network=NETWORK, dtype=torch.float32, **changes):
    """Make a trainer of up to three models that differ in every property that may differ."""
    models = list(models)
    data = make_data(dtype)
    options = {
        "parameters": 0.3 * draw(M, network.n_parameters, seed=2, dtype=dtype)[models],
        **data,
        "weight": data["weight"][models],
        "hyper": make_hyper(M, **HYPER)[models],
        "optimizer": "adamw",
        "seeds": [SEEDS[model] for model in models],
        "average": True,
    }
    return EpochTrainer(network, **{**options, **changes})


def make_batches(n_steps=7, seed=0):
    """Return a different order for each model, and batches of unequal size."""
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, N, rng.integers(2, 14)) for _ in range(n_steps)] for _ in range(M)]


def run(trainer, batches, learning_rate=0.02, **options):
    return trainer.run(*pack_batches(batches), learning_rate, **options)


def assert_same_bits(ours, theirs, models=slice(None)):
    for name in ("parameters", "state", "step_count", "average", "running"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if a is None and b is None:
            continue  # a network without a norm has no running statistics
        b = b[models]
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


# Guarantees that hold bit for bit


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_has_the_same_bits_alone_and_alongside_others(isa, n_threads, dtype):
    batches = make_batches()
    together = make_trainer(dtype=dtype)
    with torch_threads(n_threads):
        statistics = run(together, batches, margins=True)
    for model in range(M):
        alone = make_trainer([model], dtype=dtype)
        of_model = run(alone, batches[model : model + 1], margins=True)
        assert_same_bits(alone, together, slice(model, model + 1))
        beside = [
            statistics.values[[model]],
            statistics.margins[[model], : of_model.margins.shape[1]],
        ]
        results = [of_model.values, of_model.margins]
        torch.testing.assert_close(results, beside, rtol=0, atol=0, equal_nan=True)


def test_the_thread_count_changes_no_bit():
    batches = [[np.arange(N), np.arange(5, N), np.arange(20)]]
    trainers = [make_trainer([1], NetworkLayout(C, 40, K)) for _ in range(2)]
    for n_threads, trainer in zip((1, 3), trainers, strict=True):
        with torch_threads(n_threads):
            run(trainer, batches)
    assert_same_bits(*trainers)


@given(cuts=st.sets(st.integers(1, 6)), call_s=st.sampled_from([0.0, 10.0]))
def test_how_steps_are_divided_into_calls_changes_no_bit(cuts, call_s):
    with pytest.MonkeyPatch.context() as patch:
        whole = make_trainer()
        patch.setattr(train_epoch, "_CALL_S", 10.0)
        rows, offsets = pack_batches(make_batches())
        values = whole.run(rows, offsets, 0.02).values
        patch.setattr(train_epoch, "_CALL_S", call_s)
        pieces = make_trainer()
        edges = [0, *sorted(cuts), 7]
        parts = [pieces.run(rows, offsets[:, a : b + 1], 0.02).values for a, b in pairwise(edges)]
        assert_same_bits(pieces, whole)
        torch.testing.assert_close(torch.cat(parts, 1), values, rtol=0, atol=0, equal_nan=True)


def test_recording_changes_no_bit():
    batches = make_batches()
    plain, recorded = make_trainer(), make_trainer()
    run(plain, batches)
    run(recorded, batches, margins=True)
    assert_same_bits(recorded, plain)


def test_an_interrupted_run_continues_where_it_stopped(monkeypatch):
    monkeypatch.setattr(train_epoch, "_CALL_S", 0.0)
    rows, offsets = pack_batches(make_batches())
    whole, broken = make_trainer(), make_trainer()
    whole.run(rows, offsets, 0.02)

    def interrupt(taken):
        if taken == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run(rows, offsets, 0.02, on_call=interrupt)
    assert broken.step_count.tolist() == [3] * M
    broken.run(rows, offsets[:, 3:], 0.02)
    assert_same_bits(broken, whole)


@pytest.mark.parametrize("step_s", [0.0, 0.01, 0.1, 3.0])
def test_a_call_takes_no_more_than_half_a_second_of_steps(monkeypatch, step_s):
    clock, sizes = [0.0], []

    def take(*arguments):
        sizes.append(arguments[-3])
        clock[0] += sizes[-1] * step_s

    monkeypatch.setattr(train_epoch.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.ops.sensorseq, "train_epoch", take)
    trainer = make_trainer([0])
    for _ in range(2):
        trainer.run(torch.arange(400) % N, torch.arange(0, 401, 2), 0.1)
    assert sum(sizes) == 400
    assert all(size == 1 or size * step_s <= 0.5 for size in sizes)
    # after the first calls, which measure the speed, there are no more calls than needed
    assert step_s > 1 or len(sizes) <= 6 + 400 * step_s / 0.2


def test_steps_beyond_the_lengths_change_no_bit():
    data = make_data()
    for row, length in enumerate(data["lengths"].tolist()):
        data["x"][row, length:] = math.nan
    whole, cut = make_trainer(), make_trainer(x=data["x"])
    for trainer in (whole, cut):
        run(trainer, make_batches())
    assert_same_bits(cut, whole)


def test_a_step_without_windows_is_none():
    batches = make_batches()
    batches[1] = [*batches[1][:2], batches[1][2][:0], *batches[1][2:4]]
    trainer = make_trainer()
    statistics = run(trainer, batches)
    assert trainer.step_count.tolist() == [7, 4, 7]
    assert statistics["loss"].isnan().sum(1).tolist() == [0, 3, 0]
    alone = make_trainer([1])
    run(alone, [[step for step in batches[1] if len(step)]])
    assert_same_bits(alone, trainer, slice(1, 2))


def test_each_model_may_have_its_own_data_and_rates():
    x, class_index = draw(M, N, T, C, seed=9), torch.randint(0, K, (M, N))
    rates = torch.rand(M, 7, dtype=torch.float64) * 0.1
    batches = make_batches()
    together = make_trainer(x=x, class_index=class_index)
    run(together, batches, rates)
    for model in range(M):
        alone = make_trainer([model], x=x[model], class_index=class_index[model])
        run(alone, batches[model : model + 1], rates[model])
        assert_same_bits(alone, together, slice(model, model + 1))


def test_one_order_and_one_weighting_can_be_shared_by_all_models():
    batches = make_batches()[:1]
    weight = torch.rand(N)
    shared, repeated = make_trainer(weight=weight), make_trainer(weight=weight.repeat(M, 1))
    run(shared, batches)
    run(repeated, batches * M)
    assert_same_bits(shared, repeated)


# Recorded statistics


def module_of(network, parameters):
    sizes = network.input_size, network.hidden_size, network.num_classes, network.num_layers
    of_head = {"pooling": network.pooling, "head_norm": network.head_norm}
    module = LSTMLinear(*sizes, network.bidirectional, **of_head).double()
    module.load_state_dict(network.unflatten(parameters), strict=network.head_norm == "none")
    return module


def test_the_statistics_describe_the_step():
    network = NetworkLayout(C, 9, K, bidirectional=True, pooling="mean")
    hyper = make_hyper(1, max_grad_norm=0.1)
    trainer = make_trainer([0], network, torch.float64, hyper=hyper, seeds=None)
    before = trainer.parameters[0].clone()
    rows = np.array([3, 8, 1, 20, 8, 11, 4, 4, 29, 0, 17])
    statistics = run(trainer, [[rows]], margins=True)
    recorded = dict(zip(STATISTIC_COLUMNS, statistics.values[0, 0].tolist(), strict=True))

    module = module_of(network, before)
    data = make_data(torch.float64)
    x, lengths, class_index = (data[name][rows] for name in ("x", "lengths", "class_index"))
    weight = data["weight"][0, rows]
    logits = module(x, lengths)
    losses = torch.nn.functional.cross_entropy(logits, class_index, reduction="none") * weight
    losses.mean().backward()
    of_others = logits.detach().clone()
    each = torch.arange(len(rows))
    of_others[each, class_index] = -math.inf
    margins = logits.detach()[each, class_index] - of_others.amax(1)
    torch.testing.assert_close(statistics.margins[0], margins)
    expected = {
        "loss": losses.mean(),
        "loss_variance": losses.var(unbiased=False),
        "accuracy": (margins > 0).double().mean(),
        "grad_norm": torch.cat([p.grad.flatten() for p in module.parameters()]).norm(),
    }
    wanted = {name: value.item() for name, value in expected.items()}
    assert recorded == pytest.approx(wanted)
    assert 0 < recorded["accuracy"] < 1


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(ArgumentError, match="Did you mean 'grad_norm'"):
        run(make_trainer(), make_batches(1))["gradnorm"]


# Dropout masks


def test_masks_come_from_splitmix64():
    # outputs of the authors' reference implementation from the state 1234567
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    state = 1234567
    for wanted in published:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        assert train_epoch.mix(np.array([state], dtype=np.uint64)) == wanted


def test_a_mask_has_the_requested_fraction_of_zeros_and_mean_one():
    mask = dropout_mask(5, 17, 3, (200, 500), 0.3)
    assert np.unique(mask).tolist() == [0.0, 1.0 / 0.7]
    # the tolerance is five standard deviations of a fraction of 100 000 draws
    assert (mask == 0).mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 1e5) ** 0.5)


def test_masks_of_different_seeds_steps_and_sites_are_uncorrelated():
    places = [(seed, step, site) for seed in (-1, 0, 1) for step in (0, 1, 2) for site in (0, 1, 2)]
    masks = np.stack([dropout_mask(*place, (4000,), 0.5) for place in places])
    correlation = np.corrcoef(masks) - np.eye(len(places))
    assert np.abs(correlation).max() < 5 / 4000**0.5


# Arguments


def test_lanes_are_used_if_they_keep_more_threads_busy():
    assert n_lanes(1, 16, 512) == 1
    assert n_lanes(8, 2, 32) == 2
    assert n_lanes(2, 16, 4) == 2  # one tile, so a model alone would use one thread
    assert n_lanes(2, 16, 512) == 1
    assert n_lanes(3, 1, 32) == 1


@given(st.lists(st.lists(st.lists(st.integers(0, 99)), max_size=4), min_size=1, max_size=3))
def test_packed_batches_equal_the_batches(batches):
    rows, offsets = pack_batches(batches)
    for model, of_model in enumerate(batches):
        for step, wanted in enumerate(of_model):
            assert rows[model, offsets[model, step] : offsets[model, step + 1]].tolist() == wanted
        assert (offsets[model, len(of_model) :] == offsets[model, -1]).all()


def test_the_flat_buffer_is_the_modules_own_order():
    module = module_of(NETWORK, torch.zeros(NETWORK.n_parameters, dtype=torch.float64))
    torch.nn.init.normal_(module.linear.weight)
    vector = torch.nn.utils.parameters_to_vector(module.parameters())
    flat = NETWORK.flatten(dict(module.named_parameters()))
    torch.testing.assert_close(flat, vector.detach(), rtol=0, atol=0)
    for name, part in NETWORK.unflatten(flat).items():
        torch.testing.assert_close(part, module.get_parameter(name).detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"momentumm": 0.9}, "no column 'momentumm'. Did you mean 'momentum'"),
        ({"eps": [1.0, 2.0, 3.0]}, r"eps has shape \(3,\); expected one number or 2 numbers"),
        ({"beta2": 1.0}, r"beta2=1 must be in \[0, 1\)"),
        ({"dropout": [0.1, -0.1]}, r"dropout=-0.1 must be in \[0, 1\)"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0 must be above 0"),
        ({"weight_decay": math.nan}, "weight_decay=nan must be 0 or more"),
        ({"nesterov": 1.0}, "nesterov=1 needs momentum"),
    ],
)
def test_a_bad_hyper_parameter_is_named(columns, message):
    with pytest.raises(ArgumentError, match=message):
        make_hyper(2, **columns)


def test_every_hyper_parameter_has_a_column():
    assert make_hyper(2).shape == (2, len(HYPER_COLUMNS))
    assert make_hyper(1, alpha=0.5)[0, HYPER_COLUMNS.index("alpha")] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": torch.zeros(3, 5)}, r"parameters has shape \(3, 5\); expected"),
        ({"x": torch.zeros(4, 5)}, r"x has shape \(4, 5\)"),
        ({"optimizer": "adamm"}, "Did you mean 'adamw'|Did you mean 'adam'"),
        ({"loss": "hinge"}, "loss='hinge' is not known"),
    ],
)
def test_a_trainer_that_cannot_be_made_gives_the_reason(changes, message):
    with pytest.raises(ArgumentError, match=message):
        make_trainer(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(2, N, T, C)}, "x holds 2 models; expected 1 or 3"),
        ({"x": torch.zeros(N, T, C).double()}, "weight has another dtype; expected float64"),
        ({"class_index": torch.zeros(N - 1).long()}, "class_index has shape"),
        ({"class_index": torch.full((N,), K)}, r"class_index holds a value outside"),
        ({"lengths": torch.full((N,), T + 1)}, r"lengths holds a value outside"),
        ({"weight": torch.zeros(N, dtype=torch.float64)}, "weight has another dtype"),
        ({"seeds": None}, "seeds is missing"),
        ({"seeds": [1]}, r"seeds has shape \(1\); expected \(3\)"),
        ({"hyper": make_hyper(2)}, "hyper has shape"),
        ({"n_timesteps": T + 1}, "a size is out of range"),
    ],
)
def test_data_that_does_not_fit_is_named_and_changes_nothing(changes, message):
    trainer = make_trainer(**changes)
    before = trainer.parameters.clone()
    with pytest.raises(RuntimeError, match=message):
        run(trainer, make_batches())
    torch.testing.assert_close(trainer.parameters, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        ([[np.array([0, N])]], {}, "rows or crop_starts hold a value outside the data"),
        ([[np.array([0, -1])]], {}, "rows or crop_starts hold a value outside the data"),
        ([[np.array([0])]], {}, "head_norm 'batch' needs two windows"),
        ([[np.array([0, 1])]], {"learning_rate": torch.ones(2)}, "learning_rate has shape"),
        ([[np.array([0, 1])]], {"crop_starts": torch.tensor([0, 1])}, "rows or crop_starts hold"),
    ],
)
def test_steps_that_do_not_fit_are_named(steps, options, message):
    with pytest.raises(RuntimeError, match=message):
        run(make_trainer(), steps, **options)


def test_offsets_must_rise_within_the_rows():
    trainer = make_trainer()
    for offsets in ([0, 5, 3], [0, 20], [-1, 2]):
        with pytest.raises(RuntimeError, match="offsets must rise within rows"):
            trainer.run(torch.arange(10), torch.tensor(offsets), 0.1)


def test_the_op_passes_torchs_own_check():
    with OpCalls("train_epoch") as seen:
        run(make_trainer(), make_batches(2), margins=True)
    torch.library.opcheck(torch.ops.sensorseq.train_epoch.default, seen.calls["train_epoch"][0])


# The code for a GPU, tested without a GPU


@pytest.fixture
def as_gpu(monkeypatch):
    """Replace the GPU's engine with the CPU's; record its calls and the waits for them."""
    calls, waits = [], []
    op = torch.ops.sensorseq.train_epoch

    def take(*arguments):
        *tensors, workspace = arguments[:18]
        *sizes, precision = arguments[18:]
        assert workspace.numel() == 0
        calls.append({"seeds": tensors[9], "precision": precision})
        shape = (tensors[0].shape[3], *sizes[:7], sizes[9], 1, tensors[0].element_size())
        n_bytes = torch.ops.sensorseq.train_epoch_workspace_bytes(*shape)
        block = torch.empty(n_bytes + 64, dtype=torch.uint8)
        begin = -block.data_ptr() % 64
        op(*tensors, block[begin : begin + n_bytes], *sizes)

    monkeypatch.setattr(train_epoch, "_is_gpu", lambda device: True)
    monkeypatch.setattr(torch.ops.sensorseq, "train_epoch", take)
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    return calls, waits


def test_a_gpu_gets_the_arguments_of_the_cpu_and_every_call_is_awaited(monkeypatch, as_gpu):
    ours = make_trainer(n_timesteps=5)
    batches = make_batches()
    starts = torch.zeros(M, pack_batches(batches)[0].shape[1], dtype=torch.int64)
    taken = []
    ours_told = run(ours, batches, crop_starts=starts, on_call=taken.append, margins=True)
    calls, waits = as_gpu
    assert len(calls) == len(waits) == len(taken) > 1
    assert taken[-1] == 7
    monkeypatch.undo()
    theirs = make_trainer(n_timesteps=5)
    theirs_told = run(theirs, batches, crop_starts=starts, margins=True)
    assert_same_bits(ours, theirs)
    for name in ("values", "margins", "n_windows"):
        a, b = getattr(ours_told, name), getattr(theirs_told, name)
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_a_gpu_draws_masks_and_requires_seeds_only_with_dropout(as_gpu):
    calls, _ = as_gpu
    hyper = make_hyper(M)
    run(make_trainer(hyper=hyper), make_batches(1))
    assert calls[-1]["seeds"] is None
    trainer = make_trainer(hyper=hyper)
    trainer.hyper = make_hyper(M, recurrent_dropout=[0.0, 0.1, 0.0])
    run(trainer, make_batches(1))
    assert calls[-1]["seeds"].tolist() == SEEDS
    before = len(calls)
    with pytest.raises(RuntimeError, match="seeds is missing"):
        run(make_trainer(seeds=None), make_batches(1))
    assert len(calls) == before


@pytest.fixture
def choose(monkeypatch):
    """Force the choice of the code for a call."""

    def decide(**choice):
        monkeypatch.setattr(train_epoch, "choose_here", lambda *a, **k: SimpleNamespace(**choice))

    return decide


@pytest.mark.parametrize("precision", ["fp16", "fp16x3"])
def test_a_gpu_computes_in_the_precision_of_the_layer(choose, as_gpu, precision):
    choose(precision=precision, served_by="native")
    run(make_trainer(), make_batches(1))
    assert as_gpu[0][-1]["precision"] == precision


def test_a_kernel_that_may_not_be_used_takes_no_step(choose, as_gpu):
    choose(served_by="framework", reason="not checked on this GPU")
    with pytest.raises(EnvironmentProblemError, match="not checked on this GPU"):
        run(make_trainer(), make_batches(1))
    assert not as_gpu[0]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"class_index": torch.full((N,), K)}, {}, "class_index holds a value"),
        ({"class_index": torch.full((N,), -1)}, {}, "class_index holds a value"),
        ({"lengths": torch.full((N,), T + 1)}, {}, "lengths holds a value"),
        ({"lengths": torch.full((N,), -1)}, {}, "lengths holds a value"),
        ({}, {"rows": torch.tensor([0, N])}, "rows or crop_starts hold"),
        ({}, {"rows": torch.tensor([-1, 0])}, "rows or crop_starts hold"),
        ({}, {"offsets": torch.tensor([0, 3])}, "offsets must rise"),
        ({}, {"offsets": torch.tensor([-1, 1])}, "offsets must rise"),
        ({}, {"offsets": torch.tensor([1, 0])}, "offsets must rise"),
        ({"n_timesteps": 5}, {"crop_starts": torch.tensor([0, 4])}, "rows or crop_starts hold"),
        ({"n_timesteps": 5}, {"crop_starts": torch.tensor([-1, 0])}, "rows or crop_starts hold"),
        ({}, {"rows": torch.tensor([0.0, 1.0])}, "rows has another dtype"),
        ({}, {"crop_starts": torch.tensor([0, 0, 0])}, "crop_starts has shape"),
    ],
)
def test_invalid_arguments_are_named_before_a_gpu_reads_them(as_gpu, changes, options, message):
    call = {"rows": torch.tensor([0, 1]), "offsets": torch.tensor([0, 2]), **options}
    with pytest.raises(RuntimeError, match=message):
        make_trainer(**changes).run(learning_rate=0.1, **call)
    assert not as_gpu[0]
