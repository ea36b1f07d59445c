"""Ten robots in one process: each gets the decisions of its own stream, whatever the others do."""

import asyncio
import json

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import InputError
from sensorseq.prediction.serving import serve
from sensorseq.recording import Channel

RATE_HZ = 20.0
N_ROBOTS = 10


def signal(number):
    rng = np.random.default_rng(number)
    t = np.arange(300) / RATE_HZ
    return np.sin(t * (2 + 4 * (number % 2)))[:, None] + 0.3 * rng.normal(size=(300, 2))


def text_of(values):
    return "cur,vel\n" + "".join(f"{a!r},{b!r}\n" for a, b in values.tolist())


@pytest.fixture(scope="module")
def model():
    channels = (Channel("cur"), Channel("vel"))
    recordings = [
        Recording(signal(i), np.arange(300) / RATE_HZ, channels, f"r{i}", label=str(i % 2))
        for i in range(8)
    ]
    windows = PreparePipeline(window_s=1.0, hop_s=0.5, split=None).prepare(recordings)
    return plain_classifier(hidden_size=4, max_epochs=2, random_state=0).fit(windows)


def decided(model, values):
    stream = model.stream()
    return [list(decision.probabilities) for decision in [*stream.push(values), *stream.flush()]]


def serving(model, robots):
    """Serve robots, which are coroutine functions of a reader and a writer."""
    texts = []

    async def all_of_them():
        port = asyncio.get_running_loop().create_future()
        server = asyncio.ensure_future(
            serve(model.stream, "0", n_threads=2, say=texts.append, ready=port.set_result)
        )

        async def serve_one(robot):
            reader, writer = await asyncio.open_connection("127.0.0.1", await port)
            try:
                return await robot(reader, writer)
            finally:
                writer.close()

        try:
            return await asyncio.gather(*map(serve_one, robots))
        finally:
            server.cancel()

    return asyncio.run(asyncio.wait_for(all_of_them(), 60)), texts


def talking(values):
    async def robot(reader, writer):
        data = text_of(values).encode()
        for at in range(0, len(data), 700):
            writer.write(data[at : at + 700])
            await asyncio.sleep(0)
        writer.write_eof()
        return [json.loads(line) async for line in reader]

    return robot


def test_each_robot_gets_the_decisions_of_its_own_stream(model):
    found, texts = serving(model, [talking(signal(i)) for i in range(N_ROBOTS)])
    for i, lines in enumerate(found):
        assert [list(line["probabilities"].values()) for line in lines] == decided(model, signal(i))
    assert sum(text.endswith("connected") for text in texts) == N_ROBOTS


async def nonsense(reader, writer):
    writer.write(b"\xff\x00 no samples at all\n" * 30)
    return [json.loads(line) async for line in reader]


async def breaking_off(reader, writer):
    writer.write(b"cur,vel\n1,2\n3,")
    await writer.drain()
    writer.transport.abort()


async def coming_back(reader, writer):
    writer.write(b"cur,vel\n1,2\n")
    writer.write_eof()
    return await reader.read()


def test_a_robot_that_fails_does_not_disturb_the_others(model):
    robots = [talking(signal(0)), nonsense, breaking_off, coming_back, coming_back]
    found, texts = serving(model, robots)
    lines = [list(line["probabilities"].values()) for line in found[0]]
    assert lines == decided(model, signal(0))
    assert "no samples" in found[1][0]["error"]
    assert found[3] == found[4]
    assert any("no samples" in text for text in texts)


def test_decisions_that_are_more_than_a_hop_late_are_reported(model):
    class Hurried:
        """The model, with streams whose hop is so short that every decision is late."""

        def stream(self):
            made = model.stream()
            made.hop_s = 1e-9
            return made

    _, texts = serving(Hurried(), [talking(signal(0))])
    assert any("falls behind" in text and "late" in text for text in texts)


def test_an_invalid_port_is_refused(model):
    with pytest.raises(InputError, match="--tcp"):
        asyncio.run(serve(model.stream, "robot:port"))
