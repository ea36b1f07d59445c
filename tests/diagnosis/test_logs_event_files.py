"""Event files are read, whether built by hand, written by TensorBoard or damaged."""

import contextlib
import math
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorseq.diagnosis.logs import read_event_files, read_scalars
from sensorseq.errors import EnvironmentProblemError, InputError

pytest.importorskip("tensorboard")
NOT_FRESH = [HealthCheck.function_scoped_fixture]  # all examples of a test may use the same folder
NAME = "events.out.tfevents.1700000000.robot"


def crc32c_bit_by_bit(data):
    """CRC-32C by its definition: division by the Castagnoli polynomial, one bit at a time."""
    register = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            carry = (register ^ byte >> bit) & 1
            register = register >> 1 ^ (0x82F63B78 if carry else 0)
    return register ^ 0xFFFFFFFF


def mask(crc):
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def record(data):
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", mask(crc32c_bit_by_bit(part))) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def varint(value):
    value %= 2**64
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    """Return a field that contains bytes, an integer, or the 8 bytes of a float."""
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, float):
        return varint(number << 3 | 1) + struct.pack("<d", content)
    return varint(number << 3) + varint(content)


def four_bytes(number, content):
    return varint(number << 3 | 5) + content


def simple(tag, value):
    return field(1, tag.encode()) + four_bytes(2, struct.pack("<f", value))


def tensor(tag, content):
    return field(1, tag.encode()) + field(8, content)


def event(step, *values):
    summary = b"".join(field(1, value) for value in values)
    return field(1, 1.7e9) + field(2, step) + field(5, summary)


def write(folder, *events, name=NAME):
    version = field(1, 1.7e9) + field(3, b"brain.Event:2")
    path = folder / name
    path.write_bytes(b"".join(record(data) for data in (version, *events)))
    return path


def test_without_tensorboard_an_event_file_says_what_to_install(tmp_path, without_module):
    without_module("tensorboard.backend.event_processing.event_file_loader")
    with pytest.raises(EnvironmentProblemError, match=r"sensorseq\[tensorboard\]"):
        list(read_scalars(write(tmp_path, event(0, simple("loss", 1.5)))))


def test_scalars_in_hand_built_bytes_are_read_in_order(tmp_path):
    path = write(
        tmp_path,
        event(0, simple("loss", 1.5), simple("läuft", -2.0)),
        event(-1, simple("loss", math.inf)),
        event(2**40, simple("loss", 0.25)),
    )
    assert list(read_scalars(path)) == [
        ("loss", 0, 1.5),
        ("läuft", 0, -2.0),
        ("loss", -1, math.inf),
        ("loss", 2**40, 0.25),
    ]


SHAPE = field(2, field(2, field(1, 2)))  # a tensor with two numbers


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (field(1, 1) + field(4, struct.pack("<f", 0.5)), 0.5),
        (field(1, 1) + field(5, struct.pack("<f", 0.5)), 0.5),  # packed
        (field(1, 1) + four_bytes(5, struct.pack("<f", 0.5)), 0.5),  # not packed
        (field(1, 2) + field(4, struct.pack("<d", 0.1)), 0.1),
        (field(1, 2) + field(6, 0.1), 0.1),
        (field(1, 3) + field(7, -3), -3.0),
        (field(1, 9) + field(10, varint(-3)), -3.0),
        (field(2, b"") + field(1, 1) + field(4, struct.pack("<f", 0.5)), 0.5),
        (field(1, 1) + SHAPE + field(4, struct.pack("<ff", 1, 2)), None),  # a histogram
        (field(1, 7) + field(8, b"a text"), None),
    ],
)
def test_a_tensor_with_one_number_is_a_scalar(tmp_path, content, value):
    path = write(tmp_path, event(4, tensor("epoch_loss", content)))
    assert list(read_scalars(path)) == ([] if value is None else [("epoch_loss", 4, value)])


def test_files_from_the_tensorboard_writer_are_read_exactly(tmp_path):
    writer_module = pytest.importorskip("torch.utils.tensorboard")
    import numpy as np

    values = np.random.default_rng(0).normal(size=20).astype(np.float32)
    with writer_module.SummaryWriter(tmp_path) as writer:
        for step, value in enumerate(values):
            writer.add_scalar("Loss/train", value, step)
            writer.add_scalar("Loss/val", value, 3 * step, new_style=True)
            writer.add_histogram("weights", values, step)
            writer.add_text("note", "words", step)
        writer.add_scalar("Loss/train", math.nan, 20)
    (path,) = tmp_path.iterdir()
    found = list(read_scalars(path))
    for tag, factor in (("Loss/train", 1), ("Loss/val", 3)):
        own = [(step, value) for name, step, value in found if name == tag]
        assert own[:20] == [(factor * i, float(value)) for i, value in enumerate(values)]
    assert math.isnan(found[-1][2])
    assert {tag for tag, _, _ in found} == {"Loss/train", "Loss/val"}


def test_the_folders_of_a_keras_run_name_the_part(tmp_path):
    for part, values in (("train", (2.0, 1.0)), ("validation", (2.5, 1.5))):
        folder = tmp_path / part
        folder.mkdir()
        packed = [field(1, 1) + field(4, struct.pack("<f", value)) for value in values]
        write(folder, *(event(i, tensor("epoch_loss", one)) for i, one in enumerate(packed)))
    assert read_event_files(tmp_path).rows == [
        {"step": 0, "train/epoch_loss": 2.0, "validation/epoch_loss": 2.5},
        {"step": 1, "train/epoch_loss": 1.0, "validation/epoch_loss": 1.5},
    ]


def test_the_later_file_of_a_resumed_run_counts(tmp_path):
    write(tmp_path, *(event(i, simple("loss", 10.0 + i)) for i in range(5)), name=NAME + ".0")
    write(tmp_path, *(event(i, simple("loss", 20.0 + i)) for i in (3, 4, 5)), name=NAME + ".1")
    table = read_event_files(tmp_path)
    assert [row["loss"] for row in table.rows] == [10.0, 11.0, 12.0, 23.0, 24.0, 25.0]
    assert "steps of loss occur more than once" in table.notes[0]


def test_a_folder_of_runs_is_not_a_run(tmp_path):
    deeper = tmp_path / "logs" / "today" / "first"
    deeper.mkdir(parents=True)
    with pytest.raises(InputError, match="has no TensorBoard event files"):
        read_event_files(tmp_path / "logs")
    write(deeper, event(0, simple("loss", 1.0)))
    with pytest.raises(InputError, match=r"such as .*first"):
        read_event_files(tmp_path / "logs")


def test_a_file_without_scalars_is_an_error(tmp_path):
    with pytest.raises(InputError, match="has no scalars"):
        read_event_files(write(tmp_path))


WHOLE = b"".join(
    record(event(i, simple("loss", 1.0 / (i + 1)), simple("val_loss", 1.0))) for i in range(4)
)


@pytest.mark.parametrize("n_bytes", range(1, len(WHOLE), 7))
def test_the_error_for_a_truncated_file_names_the_place(tmp_path, n_bytes):
    size = len(WHOLE) // 4
    path = tmp_path / NAME
    path.write_bytes(WHOLE[:n_bytes])
    if n_bytes % size == 0:
        assert len(list(read_scalars(path))) == 2 * n_bytes // size
        return
    with pytest.raises(InputError, match=f"{NAME}, byte {n_bytes // size * size}: .*truncated"):
        list(read_scalars(path))


@settings(suppress_health_check=NOT_FRESH)
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(tmp_path, place, bit):
    content = bytearray(WHOLE)
    content[place] ^= 1 << bit
    path = tmp_path / NAME
    path.write_bytes(content)
    size = len(WHOLE) // 4
    with pytest.raises(InputError, match=f"{NAME}, byte {place // size * size}:"):
        list(read_scalars(path))


@settings(suppress_health_check=NOT_FRESH)
@given(data=st.binary(max_size=60), inner=st.sampled_from(["event", "summary", "value", "tensor"]))
def test_messages_of_any_bytes_are_read_or_rejected(tmp_path, data, inner):
    """The checksum is right but the message is invalid, as if the format had changed."""
    nested = {
        "event": data,
        "summary": field(5, data),
        "value": field(5, field(1, data)),
        "tensor": field(5, field(1, field(8, data))),
    }[inner]
    path = tmp_path / NAME
    path.write_bytes(record(nested))
    with contextlib.suppress(InputError):
        assert all(isinstance(value, float) for _, _, value in read_scalars(path))
