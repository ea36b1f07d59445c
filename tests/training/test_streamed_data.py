"""Training on a prepared file larger than the buffer gives the same results as in memory."""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from fits import AfterEpoch, plain_classifier, weights, without_time
from hypothesis import given
from hypothesis import strategies as st
from small_buffers import buffer_of

from sensorseq.errors import ArgumentError, InputError, PreparedFileError
from sensorseq.io import checksums
from sensorseq.io.prepared import PreparedFile, write_windows
from sensorseq.io.stored_windows import BUFFER_VARIABLE
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.training.autograd import AutogradSteps
from sensorseq.training.batches import TrainingData
from sensorseq.training.streamed_data import StreamedData, StreamedSampler, read_ahead
from sensorseq.windows import WindowSet

N_RECORDINGS, N_EACH, N_TIMESTEPS, N_CHANNELS = 15, 40, 12, 2
SMALL = 24_000  # in bytes, too small for the windows of the file; half of it holds 93 windows
SPLIT = np.repeat(["train", "train", "train", "validation", "test"] * 3, N_EACH)


def make_windows(*, lengths=False, split=True, configuration=None):
    rng = np.random.default_rng(0)
    n = N_RECORDINGS * N_EACH
    y = np.repeat(np.arange(3), n // 3)
    X = rng.normal(size=(n, N_TIMESTEPS, N_CHANNELS)).astype(np.float32) + y[:, None, None]
    recording = np.repeat([f"recording {i}" for i in range(N_RECORDINGS)], N_EACH)
    return WindowSet(
        X * np.float32(3) + np.float32(7),
        lengths=rng.integers(3, N_TIMESTEPS + 1, n) if lengths else None,
        y=np.array(["gravel", "ice", "sand"])[y],
        recording_id=recording,
        start_s=np.tile(np.arange(N_EACH) * 10.0, N_RECORDINGS),
        split=SPLIT if split else None,
        sample_rate_hz=2.0,
        provenance={} if configuration is None else {"configuration": configuration},
    )


def write(path, windows, **stored):
    write_windows(path, windows, **stored)
    return path


def make(**arguments):
    settings = {"hidden_size": 4, "max_epochs": 2, "learning_rate": 0.02, "batch_size": 16}
    fixed = {"device": "cpu", "random_state": 3}
    return plain_classifier(**{**settings, **fixed, **arguments})


def outcome(classifier):
    """All weights and all numbers of the history, for a bitwise comparison."""
    return weights(classifier), without_time(classifier.history_)


@pytest.fixture
def small_buffer():
    with buffer_of(SMALL):
        yield


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "windows.h5", make_windows())


@pytest.fixture
def streamed_orders(monkeypatch):
    """Visit windows in memory in the same order as streamed windows."""
    calls = []
    make_streamed = StreamedData.make_sampler

    def remember(self, *arguments, **options):
        sampler = make_streamed(self, *arguments, **options)
        calls.append(sampler)
        return sampler

    def in_that_order(self, *arguments, **options):
        where = {name: getattr(calls[-1], name) for name in ("places", "buffer_windows")}
        return StreamedSampler(
            *arguments, **options, **where, block_windows=calls[-1].block_windows
        )

    monkeypatch.setattr(StreamedData, "make_sampler", remember)
    monkeypatch.setattr(TrainingData, "make_sampler", in_that_order)
    return calls


def fit_both_ways(path, **arguments):
    with buffer_of(SMALL):
        streamed = make(**arguments).fit(path)
    return streamed, make(**arguments).fit(path)


CASES = {
    "as it is": {},
    "balanced batches": {"sampler": "balanced"},
    "epochs found by steps": {"max_epochs": "auto", "max_steps": 40, "warmup_epochs": 0.1},
    "cropped at random": {"max_timesteps": 7, "crop": "random"},
    "cropped at random in double precision": {
        "max_timesteps": 7,
        "crop": "random",
        "dtype": "float64",
        "engine": "autograd",
    },
    "another scale, dropout and an average": {"scale": "robust", "dropout": 0.3, "ema_decay": 0.9},
    "no scale, a last batch that is not full": {
        "scale": None,
        "learning_rate": 0.002,
        "batch_size": 13,
    },
    "augmented without jitter": {
        "augment": {"scaling": 0.2, "window_shift": 0.2, "mirror": [1], "swap": [(0, 1)]}
    },
}


OF_DIFFERENT_LENGTHS = ("as it is", "cropped at random", "augmented without jitter")


@pytest.mark.parametrize(
    ("name", "lengths"),
    [*((name, False) for name in CASES), *((name, True) for name in OF_DIFFERENT_LENGTHS)],
)
def test_streamed_windows_give_the_bits_of_windows_in_memory_in_the_same_order(
    name, lengths, tmp_path, streamed_orders
):
    path = write(tmp_path / "windows.h5", make_windows(lengths=lengths))
    streamed, held = fit_both_ways(path, **CASES[name])
    assert len(streamed_orders) == 1
    assert len(streamed_orders[0].cuts) > 3  # several buffers
    assert outcome(streamed) == outcome(held)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "streamed"])
def test_scaling_is_the_same_stored_or_learned_from_the_stream(stored, tmp_path, streamed_orders):
    configuration = {"scale": {"kind": "robust"}, "split": {"by": "recording"}}
    windows = make_windows(configuration=configuration)
    scaler = fit_scaler(windows.part("train").X, None, "robust")
    extra = {"scaler": scaler.to_dict()} if stored else {}
    path = write(tmp_path / "windows.h5", windows, **extra)
    streamed, held = fit_both_ways(path, scale="robust")
    assert outcome(streamed) == outcome(held)
    with buffer_of(SMALL):
        predicted = streamed.predict_proba(path)
    np.testing.assert_array_equal(predicted, held.predict_proba(path))


def test_a_file_without_a_split_is_split_by_recordings_as_in_memory(tmp_path, streamed_orders):
    path = write(tmp_path / "windows.h5", make_windows(split=False))
    streamed, held = fit_both_ways(path, validation_fraction=0.4)
    assert outcome(streamed) == outcome(held)


def test_a_streamed_fit_is_repeatable_bit_for_bit(path, small_buffer):
    first, second = make().fit(path), make().fit(path)
    assert outcome(first) == outcome(second)
    assert outcome(first) != outcome(make(random_state=4).fit(path))


def test_both_engines_take_the_same_trajectory_through_the_stream(tmp_path, small_buffer):
    path = write(tmp_path / "windows.h5", make_windows(lengths=True))
    native, autograd = (
        make(dtype="float64", engine=engine).fit(path) for engine in ("native", "autograd")
    )
    for ours, theirs in zip(native.history_, autograd.history_, strict=True):
        for name in set(ours) - {"duration_s"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9), name


def make_sampler(n_windows, batch_size, seed=0, **options):
    rng, y = np.random.default_rng(seed), np.zeros(n_windows, np.int64)
    return StreamedSampler(y, batch_size, "shuffle", rng, **options)


@given(
    n_windows=st.integers(1, 90),
    batch_size=st.integers(1, 12),
    block_windows=st.integers(1, 20),
    spare=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_every_window_is_used_once_in_an_epoch(n_windows, batch_size, block_windows, spare, seed):
    blocks = {"block_windows": block_windows, "buffer_windows": 2 * batch_size + spare}
    places = np.arange(n_windows) * 3
    sampler = make_sampler(n_windows, batch_size, seed, places=places, **blocks)
    for _ in range(2):
        buffers = sampler.buffers()
        assert max(len(rows) for rows, _ in buffers) <= 2 * batch_size + spare
        assert sorted(np.concatenate([rows for rows, _ in buffers]).tolist()) == [*range(n_windows)]
        batches = [batch for rows, ends in buffers for batch in np.split(rows, ends)]
        assert len(batches) == sampler.n_batches


def test_epochs_differ_and_a_buffer_draws_from_the_whole_file():
    n_windows = 4000
    places = np.arange(n_windows)
    sampler = make_sampler(n_windows, 20, places=places, block_windows=10, buffer_windows=1000)
    first, second = sampler.buffers(), sampler.buffers()
    assert not np.array_equal(first[0][0], second[0][0])
    for rows, ends in first:
        # With 100 random blocks, the mean is within four standard errors of the file's mean.
        assert abs(rows.mean() - n_windows / 2) < 4 * n_windows / np.sqrt(12 * 100)
        distinct = [len(np.unique(batch // 10)) for batch in np.split(rows, ends)]
        assert np.mean(distinct) > 17  # the 20 windows of a batch come from more than 17 blocks


def test_predictions_of_a_large_file_are_those_of_its_windows(tmp_path, monkeypatch):
    windows = make_windows(lengths=True)
    path = write(tmp_path / "windows.h5", windows)
    classifier = make(max_timesteps=9, crop="centre").fit(windows)
    wanted = classifier.predict_proba(windows), classifier.score(windows)
    monkeypatch.setattr("sensorseq.io.prepared.PreparedFile.take", None)  # do not read all at once
    with buffer_of(SMALL):
        np.testing.assert_array_equal(classifier.predict_proba(path), wanted[0])
        assert classifier.score(path) == wanted[1]


def test_validation_windows_may_be_a_large_file_of_their_own(tmp_path):
    windows = make_windows()
    path = write(tmp_path / "windows.h5", windows.part("validation"))
    train, validation = windows.part("train"), windows.part("validation")
    held = make(validation_fraction=0.0).fit(train, X_val=validation)
    with buffer_of(2000):
        streamed = make(validation_fraction=0.0).fit(train, X_val=path)
    assert outcome(streamed) == outcome(held)


# in another process, so that the measurements exclude memory of earlier tests
PEAKS = """
import sys
from pathlib import Path

from sensorseq import SensorLSTMClassifier


def peak_beyond(call):
    def held(what):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is held now: proc(5)
    before = held("VmRSS")
    call()
    return held("VmHWM") - before


small, large = sys.argv[1:]
classifier = SensorLSTMClassifier(
    hidden_size=1, max_epochs=1, scale="standard", pooling="last", monitor="loss", device="cpu",
    features=None, refit=None,
)
classifier.fit(small).predict(small)  # loads what libraries load once
print(peak_beyond(lambda: classifier.fit(large).predict(large)))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak")
def test_memory_is_that_of_the_buffer_not_of_the_file(tmp_path):
    def path_of(n_windows):
        X = np.zeros((n_windows, 64, 16), np.float32)
        X[::2, :4] = 1.0
        part = np.where(np.arange(n_windows) % 4 < 2, "train", "validation")
        windows = WindowSet(X, y=np.arange(n_windows) % 2, split=part)
        return write(tmp_path / f"{n_windows}.h5", windows)

    def peak(buffer):
        command = [sys.executable, "-W", "ignore", "-c", PEAKS, small, large]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **buffer}
        environment["MALLOC_MMAP_THRESHOLD_"] = "131072"  # to return freed memory; see mallopt(3)
        return int(subprocess.check_output(command, env=environment, text=True))

    small, large = path_of(1500), path_of(12000)  # 6 and 49 MB
    # The peak includes the buffer and other memory. Library pages that the system has reclaimed
    # and read again also count, so the lowest of three peaks is taken.
    assert any(peak({BUFFER_VARIABLE: str(4 * 1024**2)}) < 24e6 for _ in range(3))
    assert peak({}) > 48e6  # with the default buffer, all windows are in memory


def test_a_window_that_is_not_finite_ends_the_fit_naming_window_and_file(tmp_path, small_buffer):
    windows = make_windows()
    windows.X[83, 4, 1] = np.nan
    path = write(tmp_path / "windows.h5", windows)
    with pytest.raises(InputError, match="NaN in window 83, step 4, channel 1") as error:
        make().fit(path)
    assert str(path) in error.value.__notes__[0]


def test_damage_met_by_the_reading_thread_ends_the_fit(tmp_path, small_buffer, monkeypatch):
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)  # as if the file were large
    windows = make_windows()
    scaler = fit_scaler(windows.X).to_dict()  # so that nothing is read before training
    path = write(tmp_path / "windows.h5", windows, scaler=scaler)
    with h5py.File(path) as file:
        place = file["X"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PreparedFileError, match="truncated or damaged"):
        make().fit(path)


def test_a_file_that_is_replaced_during_a_fit_ends_it(path, small_buffer):

    def replace(module, history):
        write(path, make_windows(lengths=True))

    with pytest.raises(PreparedFileError, match="was replaced while"):
        make(callbacks=[AfterEpoch(replace)]).fit(path)


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("sensorseq-reader")]


def open_files(path):
    links = Path("/proc/self/fd").iterdir()
    return [link for link in links if link.exists() and link.resolve() == path.resolve()]


@pytest.mark.parametrize("engine", ["autograd", "native"])
def test_an_interrupt_within_an_epoch_ends_the_thread_and_closes_the_file(
    engine, path, monkeypatch, small_buffer
):
    seen = []

    def interrupt(self, *arguments, **options):
        seen.append((len(readers()), len(open_files(path))))
        raise KeyboardInterrupt

    if engine == "native":
        monkeypatch.setattr("sensorseq.training.native.NativeEpochs.take_steps", interrupt)
    else:
        monkeypatch.setattr(AutogradSteps, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(engine=engine).fit(path)
    assert seen == [(1, 1)]
    assert readers() == []
    assert open_files(path) == []


def test_only_two_pieces_are_kept_and_errors_are_raised_in_their_place():
    loaded, used = [], []

    def load(job, place, check):
        check()
        loaded.append((job, place, threading.current_thread() is threading.main_thread()))
        if job == 3:
            raise OSError("disk")
        return job

    pieces = read_ahead(load, [0, 1, 2, 3, 4])
    for piece in itertools.islice(pieces, 3):
        used.append(piece)
        assert len(loaded) <= len(used) + 1
    with pytest.raises(OSError, match="disk"):
        next(pieces)
    assert used == [0, 1, 2]
    assert loaded == [(0, 0, False), (1, 1, False), (2, 0, False), (3, 1, False)]


@pytest.mark.parametrize("batch_size", [None, 200])
def test_a_batch_larger_than_the_buffer_is_refused_by_name(batch_size, path, small_buffer):
    with pytest.raises(ArgumentError, match=f"batch_size={batch_size}.*{BUFFER_VARIABLE}"):
        make(batch_size=batch_size).fit(path)


@pytest.mark.parametrize("variable", ["1 GB", "0", "-5", "1e9"])
def test_a_buffer_size_that_is_not_a_number_is_refused(variable, path):
    with buffer_of(variable), pytest.raises(ArgumentError, match=BUFFER_VARIABLE):
        make().fit(path)


def test_a_streamed_fit_leaves_a_checkpoint_that_predicts(tmp_path, small_buffer):
    path = write(tmp_path / "windows.h5", make_windows(lengths=True))
    kept = tmp_path / "lstm"
    fitted = make(checkpoint=kept, restore_best=True).fit(path)
    loaded = type(fitted).load(kept)
    assert weights(loaded) == weights(fitted)
    assert loaded.predict_proba(path).tobytes() == fitted.predict_proba(path).tobytes()


def test_rows_are_read_past_hdf5_with_the_same_bits_and_verified_once(tmp_path, monkeypatch):
    windows = make_windows()
    path = write(tmp_path / "windows.h5", windows)
    with PreparedFile(path) as file:
        samples = file.stored.X
    rng = np.random.default_rng(0)
    with samples.opened() as reader:
        for share in (0.01, 0.3, 1.0):
            rows = rng.permutation(len(samples))[: int(share * len(samples))]
            np.testing.assert_array_equal(reader.read(rows), windows.X[rows])
        np.testing.assert_array_equal(samples[5:9].rows, [5, 6, 7, 8])
    monkeypatch.setattr(checksums, "_sums", None)
    with samples[300:].opened() as reader:  # a slice keeps the checksums already verified
        np.testing.assert_array_equal(reader.read(np.array([7, 2])), windows.X[[307, 302]])
