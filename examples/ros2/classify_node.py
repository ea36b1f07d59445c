"""A ROS 2 node that classifies messages of the topics that a model was trained on.

    python3 classify_node.py --ros-args -p model:=terrain.safetensors -p silent_s:=1.0

The node needs ROS 2 and `pip install sensorseq_runtime-*.whl`. Channels have the names that
`sensorseq prepare` gives them, such as ``/imu/data.angular_velocity.x``. Each decision is published
on ``~/decisions`` as JSON: its label, the probabilities, the times of its window, and its delay.
A topic without messages for `silent_s` is also reported there, once a second until it resumes.
"""

import json
import re
from functools import partial
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rosidl_runtime_py.utilities import get_message
from std_msgs.msg import String

from sensorseq_runtime import load
from sensorseq_runtime.errors import SensorseqError


def field_of(message: Any, path: str) -> float:
    """Return the number at a path in a message, such as ``effort[0]``."""
    for name, index in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]", path):
        message = getattr(message, name) if name else message[int(index)]
    return float(message)


class ClassifyNode(Node):
    """A node that subscribes to a model's topics and publishes the model's decisions."""

    def __init__(self) -> None:
        super().__init__("classify")
        self.declare_parameter("model", "model.safetensors")
        self.declare_parameter("silent_s", 1.0)
        model = load(self.get_parameter("model").value)
        self.silent_s = float(self.get_parameter("silent_s").value)
        self.stream = model.stream()
        self.paths: dict[str, list[str]] = {}  # fields of each topic
        self.sensor_of: dict[str, str] = {}
        for sensor, own in self.stream.sensors.items():
            if not all("." in name for name in own.channels):
                names = ", ".join(own.channels)
                raise ValueError(f"channels {names} are not TOPIC.FIELD; train on ROS 2 bags.")
            topics = {name.split(".", 1)[0] for name in own.channels}
            if len(topics) > 1:
                raise ValueError(
                    f"the model joins the topics {', '.join(sorted(topics))} on one grid, which"
                    " needs the messages around each sample; prepare with --native-rates."
                )
            self.sensor_of[topic := topics.pop()] = sensor
            self.paths[topic] = [name.split(".", 1)[1] for name in own.channels]
        self.heard_s = dict.fromkeys(self.paths, self.now_s())
        self.out = self.create_publisher(String, "~/decisions", 10)
        self.waiting = set(self.paths)
        self.create_timer(0.2, self.subscribe)
        self.create_timer(1.0, self.beat)

    def now_s(self) -> float:
        """Return the time of the node's clock."""
        return self.get_clock().now().nanoseconds * 1e-9

    def subscribe(self) -> None:
        """Subscribe to topics that have appeared; their type is unknown until then."""
        for topic, kinds in self.get_topic_names_and_types():
            if topic in self.waiting:
                try:
                    kind = get_message(kinds[0])
                except (AttributeError, ImportError, ValueError) as error:
                    self.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=10.0)
                    continue
                self.waiting.remove(topic)
                hear = partial(self.hear, topic)
                self.create_subscription(kind, topic, hear, qos_profile_sensor_data)
                self.get_logger().info(f"subscribed to {topic}")

    def hear(self, topic: str, message: Any) -> None:
        """Push a message as a sample, and publish the decisions."""
        self.heard_s[topic] = now_s = self.now_s()
        header = getattr(message, "header", None)
        stamp_s = now_s if header is None else header.stamp.sec + 1e-9 * header.stamp.nanosec
        if abs(late_s := now_s - stamp_s) > 10.0:  # the delay from a sensor to this node
            far = f"{topic}: stamps are {late_s:.0f} s late: they are empty or from another clock"
            self.get_logger().warning(far, throttle_duration_sec=10.0)
        named = (self.sensor_of[topic],) if self.stream.names_sensors else ()
        try:
            sample = [[field_of(message, path) for path in self.paths[topic]]]
            decisions = self.stream.push(*named, sample, [stamp_s])
        except (AttributeError, LookupError, TypeError, ValueError, SensorseqError) as error:
            self.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=10.0)
            return
        for decision in decisions:
            found = decision.to_dict(self.stream.classes)
            self.publish({**found, "late_s": self.now_s() - decision.end_s})

    def beat(self) -> None:
        """Publish a notice about each silent topic."""
        now_s = self.now_s()
        for topic, heard_s in self.heard_s.items():
            if now_s - heard_s > self.silent_s:
                self.publish({"silent": topic, "since_s": now_s - heard_s})

    def publish(self, fields: dict[str, Any]) -> None:
        """Publish a value as one line of JSON."""
        self.out.publish(String(data=json.dumps(fields)))


def main() -> None:
    """Run the node until it is shut down."""
    rclpy.init()
    rclpy.spin(ClassifyNode())


if __name__ == "__main__":
    main()
