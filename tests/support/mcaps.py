"""Writes MCAP files with messages of any topic, encoding and schema."""

import json

from mcap.writer import Writer

JSON = ("json", ("numbers", "jsonschema", b"{}"))


def write_mcap(path, messages, **more):
    """Write messages of (topic, time in ns, content), where a dict becomes JSON.

    A topic is a name, or a tuple of a name, an encoding and a schema (None, if it has none).
    """
    with path.open("wb") as file:
        writer, channels = Writer(file, **more), {}
        writer.start()
        for topic, time_ns, content in messages:
            if topic not in channels:
                name, encoding, schema = (topic, *JSON) if isinstance(topic, str) else topic
                number = 0 if schema is None else writer.register_schema(*schema)
                channels[topic] = writer.register_channel(name, encoding, number)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            writer.add_message(channels[topic], time_ns, data, time_ns)
        writer.finish()
    return path
