"""With a fake `rclpy`, the ROS 2 node makes the same decisions as the stream."""

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from checkout import ROOT, script
from fits import fused_classifier, plain_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import SensorseqError
from sensorseq.prediction import load
from sensorseq.recording import Channel

NODE = ROOT / "examples" / "ros2" / "classify_node.py"
RATES_HZ = {"/imu": 50.0, "/motor": 10.0}
CHANNELS = {"/imu": ("/imu.gyro.x", "/imu.gyro.y"), "/motor": ("/motor.effort[1]",)}
TYPES = {"/imu": "sensor_msgs/msg/Imu", "/motor": "sensor_msgs/msg/JointState"}


class FakeNode:
    """The part of `rclpy.node.Node` that the example uses, with a clock that tests advance."""

    settings, topics = {}, {}

    def __init__(self, name):
        self.name, self.t_s = name, 0.0
        self.said, self.timers, self.heard, self.published = [], {}, {}, []

    def declare_parameter(self, name, value):
        self.settings.setdefault(name, value)

    def get_parameter(self, name):
        return SimpleNamespace(value=self.settings[name])

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=round(self.t_s * 1e9)))

    def get_logger(self):
        return SimpleNamespace(
            info=self.said.append, warning=lambda text, **_: self.said.append(text)
        )

    def get_topic_names_and_types(self):
        return [(topic, [kind]) for topic, kind in self.topics.items()]

    def create_publisher(self, kind, topic, depth):
        assert topic == "~/decisions"
        return SimpleNamespace(
            publish=lambda message: self.published.append(json.loads(message.data))
        )

    def create_subscription(self, kind, topic, callback, qos):
        self.heard[topic] = kind, callback

    def create_timer(self, period_s, callback):
        self.timers[callback.__name__] = callback


@pytest.fixture
def example(monkeypatch):
    """Import the example with a fake `rclpy`, and with the toolkit's runtime."""
    fakes = {
        "sensorseq_runtime": {"load": load},
        "sensorseq_runtime.errors": {"SensorseqError": SensorseqError},
        "rclpy": {"init": lambda: None, "spin": lambda node: None},
        "rclpy.node": {"Node": FakeNode},
        "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
        "rosidl_runtime_py": {},
        "rosidl_runtime_py.utilities": {"get_message": lambda name: f"class of {name}"},
        "std_msgs": {},
        "std_msgs.msg": {"String": SimpleNamespace},
    }
    for name, contents in fakes.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FakeNode, "settings", {})
    monkeypatch.setattr(FakeNode, "topics", {})
    return script(NODE)


def recorded(topic, number, seconds=8.0):
    rng, rate = np.random.default_rng([number, len(topic)]), RATES_HZ[topic]
    t = np.arange(int(seconds * rate)) / rate
    wave = np.sin(t * (3 + 4 * (number % 2)))[:, None]
    values = wave + 0.3 * rng.normal(size=(len(t), len(CHANNELS[topic])))
    return Recording(
        values, t, tuple(map(Channel, CHANNELS[topic])), f"r{number}", label=str(number % 2)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write three models: of one topic, of two topics, and of two topics on a common time grid."""
    folder = tmp_path_factory.mktemp("models")
    settings = {"max_epochs": 2, "hidden_size": 4, "random_state": 0}
    of = {topic: [recorded(topic, i) for i in range(6)] for topic in RATES_HZ}
    of_imu = PreparePipeline(window_s=2, split=None).prepare(of["/imu"])
    two = PreparePipeline(window_s=2, native_rates=True, split=None).prepare(of)

    def named(*names):
        recordings = [
            replace(recording, channels=tuple(map(Channel, names))) for recording in of["/imu"]
        ]
        windows = PreparePipeline(window_s=2, split=None).prepare(recordings)
        return plain_classifier(**settings).fit(windows)

    fits = {
        "one": plain_classifier(**settings).fit(of_imu),
        "two": fused_classifier(**settings, features="summary").fit(two),
        "joined": named("/imu.x", "/motor.y"),
        "no topics": named("cur", "vel"),
    }
    for name, fitted in fits.items():
        fitted.save(folder / name)
    return folder


def message_of(topic, values, t_s):
    stamp = SimpleNamespace(sec=int(t_s), nanosec=round((t_s - int(t_s)) * 1e9))
    header = SimpleNamespace(stamp=stamp)
    if topic == "/imu":
        return SimpleNamespace(header=header, gyro=SimpleNamespace(x=values[0], y=values[1]))
    return SimpleNamespace(header=header, effort=[7.0, values[0]])


@pytest.mark.parametrize(("name", "topics"), [("one", ["/imu"]), ("two", ["/imu", "/motor"])])
def test_decisions_are_those_of_the_stream(example, files, name, topics):
    FakeNode.settings["model"] = files / name
    node = example.ClassifyNode()
    node.timers["subscribe"]()
    assert not node.heard
    FakeNode.topics = {topic: TYPES[topic] for topic in topics} | {"/other": "x/msg/Y"}
    node.timers["subscribe"]()
    node.timers["subscribe"]()
    assert {topic: kind for topic, (kind, _) in node.heard.items()} == {
        topic: f"class of {TYPES[topic]}" for topic in topics
    }
    stream, expected = load(files / name).stream(), []
    drives = {topic: recorded(topic, 9) for topic in topics}
    rows = sorted(
        (t, topic, values)
        for topic, drive in drives.items()
        for t, values in zip(drive.timestamps_s.tolist(), drive.values.tolist(), strict=True)
    )
    for t_s, topic, values in rows:
        node.t_s = t_s + 0.25
        node.heard[topic][1](message_of(topic, values, t_s))
        stamp_s = int(t_s) + 1e-9 * round((t_s - int(t_s)) * 1e9)
        named = [topic] if name == "two" else []
        expected += stream.push(*named, [values], [stamp_s])
    assert len(node.published) == len(expected) >= 3
    for published, decision in zip(node.published, expected, strict=True):
        assert published["label"] == decision.label
        assert list(published["probabilities"].values()) == list(decision.probabilities)
        assert (published["start_s"], published["end_s"]) == (decision.start_s, decision.end_s)
        assert 0 < published["late_s"] < 0.5


def test_a_topic_that_is_silent_is_named_until_it_continues(example, files):
    FakeNode.settings |= {"model": files / "two", "silent_s": 0.5}
    FakeNode.topics = dict(TYPES)
    node = example.ClassifyNode()
    node.timers["subscribe"]()
    node.timers["beat"]()
    assert node.published == []
    node.t_s = 1.0
    node.heard["/imu"][1](message_of("/imu", [0.0, 0.0], 1.0))
    node.timers["beat"]()
    assert node.published == [{"silent": "/motor", "since_s": 1.0}]
    node.t_s = 2.0
    node.timers["beat"]()
    assert [message["silent"] for message in node.published[1:]] == ["/imu", "/motor"]


def test_stamps_far_from_the_time_of_arrival_are_reported_with_their_topic(example, files):
    FakeNode.settings["model"] = files / "two"
    FakeNode.topics = dict(TYPES)
    node = example.ClassifyNode()
    node.timers["subscribe"]()
    node.t_s, n_said = 1000.0, len(node.said)
    for late_s in (0.0, 9.0, -9.0):
        node.heard["/motor"][1](message_of("/motor", [0.0], 1000.0 - late_s))
    assert not [line for line in node.said[n_said:] if "clock" in line]
    node.heard["/imu"][1](message_of("/imu", [0.0, 0.0], 0.0))
    assert node.said[-1].startswith("/imu: stamps are 1000 s late")


def test_messages_that_cannot_be_read_are_reported_and_the_node_continues(example, files):
    FakeNode.settings["model"] = files / "two"
    FakeNode.topics = dict(TYPES)
    node = example.ClassifyNode()
    node.timers["subscribe"]()
    hear = node.heard["/motor"][1]
    hear(SimpleNamespace(effort=[1.0]))
    hear(SimpleNamespace(position=[1.0]))
    hear(SimpleNamespace(effort=[1.0, np.inf]))  # a missing value
    assert [line.partition(": ")[0] for line in node.said[-2:]] == ["/motor"] * 2
    hear(SimpleNamespace(effort=[1.0, "broken"]))
    assert "could not convert" in node.said[-1]


def test_a_topic_of_an_unknown_type_is_reported_and_used_once_it_is_known(
    example, files, monkeypatch
):
    def unknown(name):
        raise ModuleNotFoundError("No module named 'robot_msgs'")

    FakeNode.settings["model"] = files / "two"
    FakeNode.topics = dict(TYPES)
    node = example.ClassifyNode()
    with monkeypatch.context() as patched:
        patched.setattr(example, "get_message", unknown)
        node.timers["subscribe"]()
    assert not node.heard
    assert "robot_msgs" in node.said[-1]
    node.timers["subscribe"]()
    assert set(node.heard) == set(TYPES)


def test_channels_that_are_not_topics_are_refused(example, files):
    FakeNode.settings["model"] = files / "no topics"
    with pytest.raises(ValueError, match=r"channels cur, vel are not TOPIC\.FIELD"):
        example.ClassifyNode()


def test_topics_on_one_grid_are_refused_with_advice(example, files):
    FakeNode.settings["model"] = files / "joined"
    with pytest.raises(ValueError, match=r"/imu, /motor on one grid.* prepare with --native-rates"):
        example.ClassifyNode()


def test_the_node_is_short():
    assert len(NODE.read_text().splitlines()) <= 120
