"""Robot logs, written by the packages that robots and their tools use."""

import math
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import find_recordings, read_recordings, read_sensors, read_source_rate
from sensorseq.readers.robot_logs import list_topics, read_robot_log
from sensorseq.readers.topics import TopicArrays

pytest.importorskip("rosbags")
pytest.importorskip("mcap")

pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from mcap.reader import make_reader
from mcaps import write_mcap
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

START_NS = 1_700_000_000_000_000_000
KINDS = ("bag", "db3", "mcap")
WHEEL = "float32 current\nfloat32[3] phases\nstring name\nuint8[] image\n"


def store_of(kind):
    store = get_typestore(Stores.ROS1_NOETIC if kind == "bag" else Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(WHEEL, "my_robot/msg/Wheel"))
    return store


def write_log(folder, kind, *, n=50, header_offset_s=0.0, name="run"):
    """Write joints at 100 Hz, an IMU at 200 Hz, a custom type and strings; return the file."""
    store = store_of(kind)
    types = store.types
    Header, Time = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    seq = {"seq": 0} if kind == "bag" else {}

    def header(time_ns):
        stamp = time_ns + round(1e9 * header_offset_s)
        return Header(stamp=Time(stamp // 10**9, stamp % 10**9), frame_id="base", **seq)

    def joints(i, time_ns):
        effort = np.array([i, -i, 0.5 * i])
        return types["sensor_msgs/msg/JointState"](
            header(time_ns), ["a", "b", "c"], np.zeros(3), np.zeros(0), effort
        )

    def imu(i, time_ns):
        Vector, Quaternion = (types[f"geometry_msgs/msg/{t}"] for t in ("Vector3", "Quaternion"))
        parts = Quaternion(0.0, 0.0, 0.0, 1.0), Vector(math.sin(i / 10), 2.0, 3.0)
        fields = [(part, np.zeros(9)) for part in (*parts, Vector(0.0, 0.0, 9.81))]
        return types["sensor_msgs/msg/Imu"](header(time_ns), *chain.from_iterable(fields))

    def wheel(i, time_ns):
        phases = np.array([i, i + 1, i + 2], np.float32)
        return types["my_robot/msg/Wheel"](0.5 * i, phases, "left", np.zeros(1000, np.uint8))

    def terrain(i, time_ns):
        return types["std_msgs/msg/String"]("grass" if i < 3 else "gravel")

    plan = {
        "/joint_states": ("sensor_msgs/msg/JointState", joints, 10_000_000, n),
        "/imu/data": ("sensor_msgs/msg/Imu", imu, 5_000_000, 2 * n),
        "/wheel": ("my_robot/msg/Wheel", wheel, 20_000_000, n // 2),
        "/terrain": ("std_msgs/msg/String", terrain, 100_000_000, max(n // 10, 1)),
    }
    if kind == "bag":
        file = folder / f"{name}.bag"
        writer = Writer1(file)
        serialize = store.serialize_ros1
    else:
        storage = StoragePlugin.SQLITE3 if kind == "db3" else StoragePlugin.MCAP
        writer = Writer2(folder / name, version=8, storage_plugin=storage)
        serialize = store.serialize_cdr
    messages = []
    with writer:
        for topic, (type_, make, period_ns, count) in plan.items():
            connection = writer.add_connection(topic, type_, typestore=store)
            for i in range(count):
                time_ns = START_NS + i * period_ns
                messages.append((time_ns, connection, serialize(make(i, time_ns), type_)))
        for time_ns, connection, data in sorted(messages, key=lambda one: one[0]):
            writer.write(connection, time_ns, data)
    return file if kind == "bag" else next((folder / name).glob(f"*.{kind}"))


def write_json_mcap(file, messages):
    return write_mcap(file, (("/motor", *message) for message in messages))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {kind: write_log(folder, kind, name=f"run_{kind}") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_the_numbers_that_were_written(logs, kind):
    recording = read_robot_log(logs[kind], ReadOptions(channels=["/joint_states.effort[1]"]))
    np.testing.assert_allclose(recording.values[:, 0], -np.arange(50.0))
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(50) / 100)
    custom = read_robot_log(
        logs[kind], ReadOptions(channels=["/wheel.phases[2]", "/wheel.current"])
    )
    np.testing.assert_allclose(custom.values[:, 0], np.arange(25) + 2)
    np.testing.assert_allclose(custom.values[:, 1], np.arange(25) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_topics_keep_their_own_rates(logs, kind):
    channels = ["/imu/data.angular_velocity.x", "/joint_states.effort[0]"]
    recording = read_robot_log(logs[kind], ReadOptions(channels=channels))
    assert recording.channel_names == tuple(channels)
    assert len(recording.values) == 100
    np.testing.assert_allclose(recording.values[:, 0], np.sin(np.arange(100) / 10))
    np.testing.assert_allclose(recording.values[::2, 1], np.arange(50))
    assert np.isnan(recording.values[1::2, 1]).all()
    rates = recording.attributes["sensor_rates_hz"]
    assert rates == pytest.approx({"/imu/data": 200, "/joint_states": 100}, rel=1e-3)


@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_each_topic_is_a_sensor_with_its_own_samples(logs, kind):
    topics = {topic.name: topic for topic in list_topics(logs[kind])}
    sensors = read_sensors(logs[kind])
    assert list(sensors) == ["/imu/data", "/joint_states", "/wheel"]
    for name, (recording,) in sensors.items():
        alone = read_robot_log(logs[kind], ReadOptions(channels=topics[name].channels))
        assert recording.channel_names == topics[name].channels
        np.testing.assert_array_equal(recording.values, alone.values)
        np.testing.assert_array_equal(recording.timestamps_s, alone.timestamps_s)
        assert len(recording.values) == topics[name].n_messages
    chosen = read_sensors(logs[kind], ReadOptions(channels=["/wheel.current"]))
    assert {name: one[0].channel_names for name, one in chosen.items()} == {
        "/wheel": ("/wheel.current",)
    }


def test_messages_with_an_unknown_encoding_are_refused_only_if_requested(tmp_path):
    topics = ("/camera", "cbor", None), ("/motor", "json", None)
    messages = [(topic, START_NS + i * 10**7, {"a": i}) for topic in topics for i in range(5)]
    file = write_mcap(tmp_path / "log.mcap", messages)
    (motor,) = read_sensors(file, ReadOptions(channels=["/motor.a"]))["/motor"]
    np.testing.assert_array_equal(motor.values[:, 0], np.arange(5))
    with pytest.raises(RecordingError, match="'/camera' have the encoding 'cbor'; known"):
        read_sensors(file)


@pytest.mark.parametrize("kind", KINDS)
def test_all_numbers_are_channels_except_long_arrays_and_headers(logs, kind):
    names = read_robot_log(logs[kind]).channel_names
    assert "/imu/data.linear_acceleration.z" in names
    assert "/imu/data.orientation_covariance[8]" in names
    assert not [name for name in names if "header" in name or "image" in name or "name" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_topics_are_listed_with_types_and_rates(logs, kind):
    topics = {topic.name: topic for topic in list_topics(logs[kind])}
    assert list(topics) == ["/imu/data", "/joint_states", "/terrain", "/wheel"]
    assert topics["/imu/data"].rate_hz == pytest.approx(200)
    assert topics["/imu/data"].message_type == "sensor_msgs/msg/Imu"
    assert topics["/joint_states"].n_messages == 50
    phases = [f"/wheel.phases[{i}]" for i in range(3)]
    assert topics["/wheel"].channels == ("/wheel.current", *phases)
    assert topics["/terrain"].channels == ()


@pytest.mark.parametrize("steps_ms", [(5, 15), (8, 12, 12), (3, 3, 24), (10,)])
def test_the_rate_in_the_list_of_topics_is_that_of_the_recording(tmp_path, steps_ms):
    times_ms = np.cumsum([0, *np.tile(steps_ms, 400)])
    messages = [(START_NS + int(t) * 10**6, {"x": float(t % 7)}) for t in times_ms]
    write_json_mcap(tmp_path / "a.mcap", messages)
    (topic,) = list_topics(tmp_path / "a.mcap")
    assert topic.rate_hz == pytest.approx(1000 / np.mean(steps_ms))
    assert topic.rate_hz == pytest.approx(read_source_rate(*find_recordings(tmp_path / "a.mcap")))
    arrays = TopicArrays("v", "", times_ms / 1000, {"x": times_ms % 7}, {})
    assert arrays.listed().rate_hz == pytest.approx(topic.rate_hz)


@pytest.mark.parametrize("kind", KINDS)
def test_time_is_that_of_the_sender_by_default(tmp_path, kind):
    file = write_log(tmp_path, kind, n=20, header_offset_s=-1.0)
    channels = ["/joint_states.effort[0]"]
    sent = read_robot_log(file, ReadOptions(channels=channels))
    logged = read_robot_log(file, ReadOptions(channels=channels, time_column="log_time"))
    np.testing.assert_allclose(logged.timestamps_s - sent.timestamps_s, 1.0)
    # The log time is used, because these messages have no header.
    without = read_robot_log(file, ReadOptions(channels=["/wheel.current"]))
    assert without.timestamps_s[0] == 0.0
    with pytest.raises(RecordingError, match=r"'/wheel' have no header\.stamp; use time_column"):
        read_robot_log(file, ReadOptions(channels=["/wheel.current"], time_column="header.stamp"))
    with pytest.raises(RecordingError, match=r"no time column 'time'; use header\.stamp or log_"):
        read_robot_log(file, ReadOptions(time_column="time"))


def test_stamps_of_a_different_clock_are_not_changed(tmp_path):
    file = write_log(tmp_path, "mcap", header_offset_s=5.0 - START_NS / 10**9)
    simulated = read_robot_log(file, ReadOptions(channels=["/joint_states.effort[0]"]))
    np.testing.assert_allclose(simulated.timestamps_s, 5 + np.arange(50) / 100, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_topic_of_strings_labels_the_recording(logs, kind):
    channels = ["/joint_states.effort[0]"]
    recording = read_robot_log(
        logs[kind], ReadOptions(channels=channels, label_column="/terrain.data")
    )
    first, second = recording.label_spans
    assert (first.label, second.label) == ("grass", "gravel")
    assert first.end_s - first.start_s == pytest.approx(0.3)
    assert second.end_s > recording.timestamps_s[-1]
    with pytest.raises(RecordingError, match=r"no channel '/terrain\.date'"):
        read_robot_log(logs[kind], ReadOptions(channels=channels, label_column="/terrain.date"))


def test_json_messages_are_read(tmp_path):
    file = tmp_path / "log.mcap"
    times = [START_NS + i * 10**7 for i in range(5)]
    write_json_mcap(file, [(t, {"a": {"b": [i, 2 * i]}}) for i, t in enumerate(times)])
    recording = read_robot_log(file)
    assert recording.channel_names == ("/motor.a.b[0]", "/motor.a.b[1]")
    np.testing.assert_array_equal(recording.values[:, 1], 2 * np.arange(5))


def write_joints(folder, kind, messages):
    """Write one topic of joint states from times in ms, names and positions; return the file."""
    store = store_of(kind)
    types, type_ = store.types, "sensor_msgs/msg/JointState"
    if kind == "bag":
        writer, serialize = Writer1(folder / "joints.bag"), store.serialize_ros1
    else:
        storage = StoragePlugin.SQLITE3 if kind == "db3" else StoragePlugin.MCAP
        writer = Writer2(folder / "joints", version=8, storage_plugin=storage)
        serialize = store.serialize_cdr
    with writer:
        connection = writer.add_connection("/joints", type_, typestore=store)
        for time_ms, names, position in sorted(messages):
            t = START_NS + time_ms * 10**6
            stamp = types["builtin_interfaces/msg/Time"](t // 10**9, t % 10**9)
            seq = {"seq": 0} if kind == "bag" else {}
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="", **seq)
            fields = names, np.array(position, float), np.zeros(0), np.zeros(0)
            writer.write(connection, t, serialize(types[type_](header, *fields), type_))
    return next(folder.rglob(f"*.{kind}"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_element_is_the_one_that_its_message_names(tmp_path, kind):
    i = np.arange(50)
    orders = (["a", "b"], 1), (["b", "a"], -1)
    joints = [(20 * k, names, [s * k, -s * k]) for k in range(50) for names, s in [orders[k // 25]]]
    gripper = [(20 * k + 7, ["finger"], [0.5]) for k in range(50)]
    file = write_joints(tmp_path, kind, joints + gripper)
    names = [f"/joints.position[{name}]" for name in ("a", "b", "finger")]
    for channels in (names, None):
        recording = read_robot_log(file, ReadOptions(channels=channels))
        assert recording.channel_names == tuple(names)
        assert list(recording.attributes["sensor_rates_hz"].values()) == [50, 50]
        np.testing.assert_array_equal(recording.values[::2, :2], np.column_stack([i, -i]))
        np.testing.assert_array_equal(recording.values[1::2, 2], np.full(50, 0.5))
    alone = read_robot_log(file, ReadOptions(channels=names[:1]))
    np.testing.assert_array_equal(alone.values[:, 0], i)
    np.testing.assert_allclose(np.diff(alone.timestamps_s), 0.02)
    assert [(t.n_messages, t.rate_hz, t.channels) for t in list_topics(file)] == [
        (50, 50, tuple(names[:2])),
        (50, 50, tuple(names[2:])),
    ]
    assert read_sensors(file)["/joints"][0].channel_names == tuple(names)
    words = r"names in messages of '/joints' change.*such as '/joints\.position\[a\]'"
    with pytest.raises(RecordingError, match=words):
        read_robot_log(file, ReadOptions(channels=["/joints.position[0]"]))


@pytest.mark.parametrize(("names", "last"), [(["a", "b"], "b"), ([], 1), (["a", "b", "c"], 1)])
def test_a_constant_order_can_be_used_by_number(tmp_path, names, last):
    messages = [(20 * k, names, [k, -k]) for k in range(20)]
    file = write_joints(tmp_path, "mcap", messages)
    for channel in ("/joints.position[1]", f"/joints.position[{last}]"):
        recording = read_robot_log(file, ReadOptions(channels=[channel]))
        np.testing.assert_array_equal(recording.values[:, 0], -np.arange(20))
    assert list_topics(file)[0].channels[-1] == f"/joints.position[{last}]"


def test_frames_of_one_topic_are_separate_sensors(tmp_path):
    def message(k, frame):
        return START_NS + 10 * k * 10**6, {"header": {"frame_id": frame}, "x": k}

    messages = [message(k, ("left", "right")[k % 2]) for k in range(100)]
    write_json_mcap(file := tmp_path / "two.mcap", messages)
    left, right = (
        read_robot_log(file, ReadOptions(channels=[f"/motor[{n}].x"])) for n in ("left", "right")
    )
    np.testing.assert_array_equal(left.values[:, 0], np.arange(0, 100, 2))
    np.testing.assert_array_equal(right.values[:, 0], np.arange(1, 100, 2))
    both = read_robot_log(file)
    assert both.channel_names == ("/motor[left].x", "/motor[right].x")
    assert list(read_sensors(file)) == ["/motor[left]", "/motor[right]"]
    assert list(read_sensors(file, ReadOptions(channels=["/motor[left].x"]))) == ["/motor[left]"]
    with pytest.raises(RecordingError, match=r"frame_id .*left.*right.*as in '/motor\[left\]\.x'"):
        read_robot_log(file, ReadOptions(channels=["/motor.x"]))
    for frames in (["left"] * 100, [f"frame_{k}" for k in range(100)]):  # constant, or a counter
        write_json_mcap(file := tmp_path / "one.mcap", map(message, range(100), frames))
        one = read_robot_log(file)
        assert one.channel_names == ("/motor.x",)
        np.testing.assert_array_equal(one.values[:, 0], np.arange(100))


def test_structs_in_a_list_are_named_by_themselves(tmp_path):
    def message(k):
        frames = [{"child_frame_id": name, "x": x} for name, x in (("base", k), ("arm", -k))]
        values = {"interface_names": ["position", "effort"], "values": [k, 7]}
        other = {"interface_names": ["effort"], "values": [8]}
        joints = {"joint_names": ["j1", "j2"], "interface_values": [values, other]}
        return {"transforms": frames[:: (-1) ** (k % 3)], **joints}

    file = tmp_path / "tf.mcap"
    write_json_mcap(file, [(START_NS + k * 10**7, message(k)) for k in range(30)])
    paths = ["transforms[arm].x", "interface_values[j1].values[position]"]
    recording = read_robot_log(file, ReadOptions(channels=[f"/motor.{path}" for path in paths]))
    np.testing.assert_array_equal(recording.values, np.arange(30)[:, None] * [-1, 1])
    assert "/motor.interface_values[j2].values[effort]" in list_topics(file)[0].channels
    with pytest.raises(RecordingError, match=r"such as '/motor\.transforms\[base\]\.x'"):
        read_robot_log(file, ReadOptions(channels=["/motor.transforms[0].x"]))


def test_a_numeric_label_is_no_channel(tmp_path):
    messages = [(START_NS + k * 10**7, {"x": k, "mode": k // 15}) for k in range(30)]
    write_json_mcap(tmp_path / "a.mcap", messages)
    recording = read_robot_log(tmp_path / "a.mcap", ReadOptions(label_column="/motor.mode"))
    assert recording.channel_names == ("/motor.x",)
    assert recording.labels == ("0", "1")


def protobuf_types():
    """Return a set of definition files in which each file comes before those that it imports."""
    Field = descriptor_pb2.FieldDescriptorProto
    vectors = descriptor_pb2.FileDescriptorProto(name="vec.proto", package="my", syntax="proto3")
    vector = vectors.message_type.add(name="Vec")
    for number, name in enumerate("xy", 1):
        vector.field.add(name=name, number=number, type=Field.TYPE_DOUBLE, label=1)
    motors = descriptor_pb2.FileDescriptorProto(name="motor.proto", package="my", syntax="proto3")
    motors.dependency.extend(["vec.proto", "google/protobuf/timestamp.proto"])
    motor = motors.message_type.add(name="Motor")
    for number, (name, type_, label, of) in enumerate(
        [
            ("timestamp", Field.TYPE_MESSAGE, 1, ".google.protobuf.Timestamp"),
            ("force", Field.TYPE_MESSAGE, 1, ".my.Vec"),
            ("phases", Field.TYPE_FLOAT, 3, ""),
            ("joints", Field.TYPE_MESSAGE, 3, ".my.Vec"),
            ("name", Field.TYPE_STRING, 1, ""),
            ("count", Field.TYPE_INT64, 1, ""),
            ("child", Field.TYPE_MESSAGE, 1, ".my.Motor"),
        ],
        1,
    ):
        named = {"type_name": of} if of else {}
        motor.field.add(name=name, number=number, type=type_, label=label, **named)
    stamps = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamps)
    return descriptor_pb2.FileDescriptorSet(file=[motors, vectors, stamps])


def test_protobuf_messages_are_read_by_the_definitions_in_the_file(tmp_path):
    types = protobuf_types()
    pool = descriptor_pool.DescriptorPool()
    for one in reversed(types.file):
        pool.Add(one)
    Motor = message_factory.GetMessageClass(pool.FindMessageTypeByName("my.Motor"))
    schema, messages = ("my.Motor", "protobuf", types.SerializeToString()), []
    for i in range(20):
        message = Motor(phases=[i, -i], name="left", count=2**40 + i, joints=[{"x": i}])
        message.timestamp.FromNanoseconds(START_NS + i * 10**7)
        if i % 2:
            message.force.y = 0.5 * i
        log_time = START_NS + i * 10**7 + 10**9
        messages.append((("/motor", "protobuf", schema), log_time, message.SerializeToString()))
    file = write_mcap(tmp_path / "motor.mcap", messages)
    (topic,) = list_topics(file)
    assert topic.message_type == "my.Motor"
    names = ["phases[0]", "phases[1]", "joints[0].x", "joints[0].y", "count", "force.x", "force.y"]
    assert topic.channels == tuple(f"/motor.{name}" for name in names)
    recording = read_robot_log(file, ReadOptions(channels=topic.channels))
    i = np.arange(20.0)
    x, y = (np.where(i % 2, force, np.nan) for force in (0 * i, 0.5 * i))
    expected = np.column_stack([i, -i, i, 0 * i, 2.0**40 + i, x, y])
    np.testing.assert_array_equal(recording.values, expected)
    # the stamps from the sender, one second before the log times
    np.testing.assert_allclose(recording.timestamps_s, i / 100 - 1, atol=1e-12)
    file.write_bytes(file.read_bytes().replace(b"vec.proto", b"vex.proto", 1))
    with pytest.raises(RecordingError, match=r"motor\.mcap: cannot be read"):
        read_robot_log(file)


def test_a_log_without_numbers_is_refused_by_every_reader(tmp_path):
    file = tmp_path / "log.mcap"
    for messages in ([], [(START_NS, {"a": "text"})]):
        write_json_mcap(file, messages)
        (source,) = find_recordings(file)
        for read in (read_robot_log, lambda _: read_source_rate(source)):  # noqa: B023
            with pytest.raises(RecordingError, match="no topic has messages with numbers"):
                read(file)


def test_a_field_that_later_messages_lack_is_a_missing_sample(tmp_path):
    file = tmp_path / "log.mcap"
    contents = [{"a": [1, 2]}, {"a": [3]}, {"a": [4, 5, 7], "b": 6}]
    write_json_mcap(file, [(START_NS + i * 10**7, one) for i, one in enumerate(contents)])
    values = read_robot_log(file).values
    np.testing.assert_array_equal(values, [[1, 2, np.nan], [3, np.nan, np.nan], [4, 5, 6]])


def test_a_field_that_the_first_message_lacks_is_a_channel(tmp_path):
    contents = [{"a": 0, "b": None}, *({"a": k, "b": math.inf, "c": {"d": -k}} for k in (1, 2))]
    write_json_mcap(file := tmp_path / "log.mcap", enumerate([*contents] * 500, START_NS))
    recording = read_robot_log(file)
    assert recording.channel_names == ("/motor.a", "/motor.b", "/motor.c.d")
    assert list_topics(file)[0].channels == recording.channel_names
    nan = np.nan
    expected = [[0, nan, nan], [1, nan, -1], [2, nan, -2]]  # infinity is a missing sample
    np.testing.assert_array_equal(recording.values[-3:], expected)


def test_fields_of_one_definition_only_are_named(tmp_path):
    of_each = {"V1": "current", "V2": "current_ma"}
    messages = [
        (("/motor", "json", (name, "jsonschema", b"{}")), START_NS + 5 * k + i, {"speed": 1, of: 2})
        for k, (name, of) in enumerate(of_each.items())
        for i in range(5)
    ]
    file = write_mcap(tmp_path / "log.mcap", messages)
    for channels in (None, ["/motor.current"], ["/motor.current_ma"]):
        with pytest.raises(RecordingError, match=r"\(V1, V2\), and not all of them have 'current"):
            read_robot_log(file, ReadOptions(channels=channels))
    assert read_robot_log(file, ReadOptions(channels=["/motor.speed"])).values.sum() == 10


def write_two_clocks(folder, offsets_s, period_ms=(20, 20)):
    """Write two topics with a ramp in s by log time, and stamps before it; return the file."""
    times = [(k, j * step, offsets_s[k]) for k, step in enumerate(period_ms) for j in range(100)]
    messages = []
    for k, t_ms, offset_s in sorted(times, key=lambda time: time[1]):
        ns = START_NS + t_ms * 10**6
        stamp_ns = ns - round(1e9 * offset_s)
        stamp = {"sec": stamp_ns // 10**9, "nanosec": stamp_ns % 10**9}
        content = {"x": t_ms / 1000, **({"header": {"stamp": stamp}} if offset_s else {})}
        messages.append((("/body", "/foot")[k], ns, content))
    return write_mcap(folder / "log.mcap", messages)


@pytest.mark.parametrize("offsets_s", [(3.2, 0.005), (START_NS / 1e9 - 12, 0.1), (0, -4), (2, -2)])
def test_topics_on_different_clocks_are_not_joined(tmp_path, offsets_s):
    file = write_two_clocks(tmp_path, offsets_s)
    for channels in (None, ["/body.x", "/foot.x"]):
        with pytest.raises(RecordingError, match=r"'/body' and '/foot' are of different clocks"):
            read_robot_log(file, ReadOptions(channels=channels))
    x = read_robot_log(file, ReadOptions(time_column="log_time")).values
    np.testing.assert_array_equal(x[:, 0], x[:, 1])
    assert len(read_robot_log(file, ReadOptions(channels=["/body.x"])).values) == 100


@pytest.mark.parametrize(
    ("offsets_s", "period_ms"),
    [((0.2, 0.005), (20, 20)), ((0, 0.3), (20, 5)), ((99, 99.5), (20, 20)), ((5, 0.1), (9000, 50))],
)
def test_delays_are_no_different_clock(tmp_path, offsets_s, period_ms):
    assert read_robot_log(write_two_clocks(tmp_path, offsets_s, period_ms)).n_channels == 2


def test_folders_of_bags_are_recordings_with_their_class(logs, tmp_path):
    for kind, terrain in (("db3", "grass"), ("mcap", "gravel"), ("bag", "sand")):
        (tmp_path / terrain).mkdir()
        shutil.copy(logs[kind], tmp_path / terrain / f"run.{kind}")
    sources = find_recordings(tmp_path)
    assert [source.recording_id for source in sources] == ["grass/run", "gravel/run", "sand/run"]
    assert [source.label for source in sources] == ["grass", "gravel", "sand"]
    channels = ["/joint_states.effort[0]", "/imu/data.angular_velocity.x"]
    recordings = read_recordings(tmp_path, channels=channels)
    assert [recording.label for recording in recordings] == ["grass", "gravel", "sand"]
    np.testing.assert_array_equal(recordings[0].values, recordings[1].values)
    np.testing.assert_array_equal(recordings[0].values, recordings[2].values)
    assert read_source_rate(sources[0], ReadOptions(channels=channels)) == pytest.approx(
        200, rel=1e-3
    )
    assert read_source_rate(sources[0], ReadOptions(channels=channels[:1])) == pytest.approx(
        100, rel=1e-3
    )


def test_the_files_of_a_split_bag_are_one_recording(tmp_path):
    one = write_log(tmp_path, "mcap", name="whole")
    folder = tmp_path / "split"
    folder.mkdir()
    (folder / "metadata.yaml").write_text("")
    for part in (10, 9):  # in numerical, not alphabetical, order
        file = folder / f"split_{part}.mcap"
        write_json_mcap(file, [(START_NS + (10 * part + i) * 10**6, {"a": i}) for i in range(10)])
    (source,) = find_recordings(folder)
    assert source.recording_id == "split"
    (recording,) = read_recordings(folder)
    assert len(recording.values) == 20
    assert one.is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_channel_is_named_with_a_similar_one(logs, kind):
    for wrong, nearest in (
        ("/joint_states.efort[0]", "/joint_states.effort[0]"),
        ("/joint_state.effort[0]", "/joint_states.effort[0]"),
        ("/joint_states.effort[7]", "/joint_states.effort[0]"),
    ):
        said = rf"{re.escape(str(logs[kind]))}: no channel '{re.escape(wrong)}'.*Did you mean '"
        with pytest.raises(RecordingError, match=said) as error:
            read_robot_log(logs[kind], ReadOptions(channels=[wrong]))
        assert nearest[:16] in str(error.value)


@given(size=st.one_of(st.integers(0, 40), st.integers(0, 2**16)), kind=st.sampled_from(KINDS))
@example(size=8, kind="mcap")  # only the bytes that identify the format
def test_a_truncated_file_is_refused_with_the_offset_of_its_end(logs, tmp_path_factory, size, kind):
    whole = logs[kind].read_bytes()
    size %= len(whole)
    file = tmp_path_factory.mktemp("cut") / f"cut.{kind}"
    file.write_bytes(whole[:size])
    said = "cannot be read" if size else "is empty"
    with pytest.raises(RecordingError, match=said) as error:
        read_robot_log(file)
    whole_up_to = re.search(r"intact up to byte (\d+) of (\d+)", str(error.value))
    if kind != "db3" and size:
        assert int(whole_up_to[1]) <= size == int(whole_up_to[2])


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_changed_bytes_never_raise_errors_of_foreign_libraries(logs, tmp_path_factory, data, kind):
    content = bytearray(logs[kind].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("changed") / f"changed.{kind}"
    file.write_bytes(content)
    with suppress(RecordingError):
        read_robot_log(file)


@pytest.fixture(scope="module")
def long_logs(tmp_path_factory):
    """Logs with many small chunks, as written by a recorder over several minutes."""
    folder = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch:
        begin = Writer1.__init__

        def small_chunks(self, *args, **kwargs):
            begin(self, *args, **kwargs)
            self.chunk_threshold = 5000
            self.set_compression(Writer1.CompressionFormat.LZ4)

        patch.setattr(Writer1, "__init__", small_chunks)
        files = {kind: write_log(folder, kind, n=200, name=kind) for kind in ("bag", "mcap")}
    with files["mcap"].open("rb") as whole:
        messages = []
        for schema, channel, message in make_reader(whole).iter_messages():
            of_topic = schema.name, schema.encoding, schema.data
            topic = channel.topic, channel.message_encoding, of_topic
            messages.append((topic, message.log_time, message.data))
    return {**files, "mcap": write_mcap(folder / "chunks.mcap", messages, chunk_size=5000)}


@pytest.fixture(scope="module")
def long_readings(long_logs):
    channels = ["/joint_states.effort[0]"]
    return {
        kind: read_robot_log(file, ReadOptions(channels=channels))
        for kind, file in long_logs.items()
    }


@settings(max_examples=8)
@given(data=st.data(), kind=st.sampled_from(("bag", "mcap")))
def test_messages_before_the_damage_can_be_salvaged(
    long_logs, long_readings, tmp_path_factory, data, kind
):
    content = bytearray(long_logs[kind].read_bytes())
    at = data.draw(st.integers(len(content) // 4, len(content) - 1))
    file = tmp_path_factory.mktemp("cut") / f"cut.{kind}"
    file.write_bytes(content[:at])
    channels = ["/joint_states.effort[0]"]
    whole = long_readings[kind]
    with pytest.raises(RecordingError, match="cannot be read"):
        read_robot_log(file, ReadOptions(channels=channels))
    kept = read_robot_log(file, ReadOptions(channels=channels, salvage=True))
    assert kept.n_samples >= 30
    np.testing.assert_array_equal(kept.values, whole.values[: kept.n_samples])
    np.testing.assert_array_equal(kept.timestamps_s, whole.timestamps_s[: kept.n_samples])
    assert kept.attributes["salvaged"]["kept_s"] == kept.duration_s
    assert re.search(r"intact up to byte \d+ of", kept.attributes["salvaged"]["reason"])


@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_salvaging_ends_at_a_changed_byte(long_logs, tmp_path, kind):
    rng = np.random.default_rng(0)
    whole = read_robot_log(long_logs[kind], ReadOptions(channels=["/wheel.current"]))
    n_kept = []
    for _ in range(8):
        content = bytearray(long_logs[kind].read_bytes())
        content[rng.integers(len(content) // 2, len(content))] ^= 0xFF
        file = tmp_path / f"changed.{kind}"
        file.write_bytes(content)
        with suppress(RecordingError):
            kept = read_robot_log(file, ReadOptions(channels=["/wheel.current"], salvage=True))
            n_kept.append(kept.n_samples)
            if "salvaged" in kept.attributes:
                wrong = (kept.values != whole.values[: kept.n_samples]).sum()
                assert wrong <= 1  # rosbags does not verify checksums of bags
    assert len(n_kept) >= 4


def test_nothing_is_salvaged_by_default_or_from_an_unreadable_file(logs, tmp_path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(logs["mcap"].read_bytes()[:60])
    with pytest.raises(RecordingError, match=r"cut\.mcap: cannot be read"):
        read_robot_log(cut, ReadOptions(salvage=True))
    whole = read_robot_log(logs["mcap"], ReadOptions(channels=["/wheel.current"], salvage=True))
    assert "salvaged" not in whole.attributes
    with pytest.raises(RecordingError, match=r"no channel '/wheel\.volts'"):
        read_robot_log(logs["mcap"], ReadOptions(channels=["/wheel.volts"], salvage=True))


def test_prepare_uses_messages_before_the_damage_if_errors_are_skipped(long_logs, tmp_path):
    (tmp_path / "in" / "grass").mkdir(parents=True)
    for i in range(4):
        shutil.copy(long_logs["bag"], tmp_path / "in" / "grass" / f"run{i}.bag")
    cut = tmp_path / "in" / "grass" / "cut.bag"
    # truncated within the index after the messages, as if the recorder had been killed late
    whole = (tmp_path / "in" / "grass" / "run0.bag").read_bytes()
    cut.write_bytes(whole[:-200])
    options = {"channels": ["/joint_states.effort[0]"], "window_s": 0.5}
    with pytest.raises(RecordingError, match=r"cut\.bag: cannot be read; it is intact up to byte"):
        prepare(tmp_path / "in", tmp_path / "out.h5", **options)
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", on_error="skip", **options)
    (entry,) = summary.dropped
    assert entry["recording_id"] == "grass/cut"
    assert entry["kept_s"] == pytest.approx(1.99)
    assert entry["reason"].startswith("cut.bag: cannot be read; it is intact up to byte")
    assert entry["reason"].endswith("Only the first 2.0 s of the log are used.")
    assert summary.n_recordings == 5
    assert "salvaged: cut.bag" in " ".join(str(summary).split())
    with pytest.warns(UserWarning, match="salvaged: .*first 2.0 s of the log are used"):
        read_recordings(tmp_path / "in", channels=options["channels"], on_error="skip")
    again = prepare(tmp_path / "in", tmp_path / "out.h5", on_error="skip", **options)
    assert (again.action, again.dropped) == ("none", summary.dropped)
    for resume in (False, True):
        with pytest.raises(RecordingError, match=r"cut\.bag: cannot be read"):
            prepare(tmp_path / "in", tmp_path / "out.h5", resume=resume, **options)


def test_channels_that_never_change_are_one_line(logs, tmp_path):
    shutil.copy(logs["mcap"], tmp_path / "run.mcap")
    how = {"window_s": 0.1, "split": (1.0, 0.0, 0.0)}
    summary = prepare(tmp_path, tmp_path / "out.h5", **how)
    constant = summary.constant_channels
    said = " ".join(str(summary).split())
    assert len(constant) > 3
    assert f"{len(constant)} channels never change" in said
    assert f"{constant[0]!r}" in said
    assert f"{constant[-1]!r}" not in said
    assert "`channels`" in said
    one = " ".join(str(replace(summary, constant_channels=constant[:1])).split())
    assert f"channel {constant[0]!r} never changes" in one
