"""Each robot gets the decisions of its own stream, whatever other connections do."""

import asyncio
import json
import os

import numpy as np
import pytest
from fits import plain_classifier
from robots import served

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import InputError
from sensorseq.prediction import live
from sensorseq.prediction.serving import serve
from sensorseq.recording import Channel

RATE_HZ, HOP_S = 50.0, 1.0
NAMES = ("cur", "vel")
MEGABYTE = 1 << 20


def signal(seconds, seed):
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE_HZ)
    return np.sin(np.arange(n) * (0.1 + 0.2 * (seed % 2)))[:, None] + 0.3 * rng.normal(size=(n, 2))


@pytest.fixture(scope="module")
def model():
    channels = tuple(map(Channel, NAMES))
    recordings = [
        Recording(signal(12, i), np.arange(600) / RATE_HZ, channels, f"r{i}", label=str(i % 2))
        for i in range(6)
    ]
    pipeline = PreparePipeline(window_s=1.0, hop_s=HOP_S, split=None)
    windows = pipeline.prepare(recordings)
    return plain_classifier(hidden_size=4, max_epochs=2, random_state=0).fit(windows).model_


def decided(model, values):
    stream = model.stream()
    return [list(decision.probabilities) for decision in [*stream.push(values), *stream.flush()]]


async def good(port, seed, pause_s=0.2):
    """Send three seconds of samples, usually in real time; return the decisions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"cur,vel\n")
    for part in np.split(signal(3, seed), 15):
        writer.write("".join(f"{a!r},{b!r}\n" for a, b in part.tolist()).encode())
        await asyncio.sleep(pause_s)
    writer.write_eof()
    lines = [json.loads(line) async for line in reader]
    writer.close()
    return lines


async def attacked_with(port, data, n_times=1, *, reads=True):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(n_times):
            writer.write(data)
            await writer.drain()
        if reads:
            writer.write_eof()
            await reader.read()
        await asyncio.sleep(2)
    except OSError:  # the server closed the connection
        pass
    finally:
        writer.close()


async def without_line_ends(port):
    await attacked_with(port, b"1" * MEGABYTE, 50)


async def random_bytes(port):
    await attacked_with(port, os.urandom(MEGABYTE), 13)


async def newlines(port):
    await attacked_with(port, b"\n" * MEGABYTE, 20)


async def not_finite(port):
    await attacked_with(port, b"cur,vel\n" + b"nan,inf\n-inf,1e999\n" * 20000)


async def a_client_that_never_reads(port):
    samples = "".join(f"{a!r},{b!r}\n" for a, b in signal(60, 0).tolist()).encode()
    await attacked_with(port, samples, 20, reads=False)


async def a_break(port):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"cur,vel\n1,2\n3,")
    await writer.drain()
    writer.transport.abort()


async def idle_connections(port):
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
    # The robots keep their places, and the first of the silent connections lose theirs.
    assert b"20 connections, the maximum number" in await opened[0][0].read()
    await asyncio.sleep(1)
    for _, writer in opened:
        writer.close()


ATTACKS = {
    without_line_ends: "more than 65536 bytes",
    random_bytes: "are not samples of",
    newlines: "closed",
    not_finite: "infinite 60000",
    a_client_that_never_reads: "closed",
    a_break: "closed",
    idle_connections: "20 connections, the maximum number",
}


@pytest.mark.parametrize(
    ("attack", "answer"), ATTACKS.items(), ids=lambda case: getattr(case, "__name__", "")
)
def test_two_good_robots_get_all_their_decisions_within_a_hop(model, attack, answer):
    async def everything(port):
        robots = [asyncio.ensure_future(good(port, seed)) for seed in range(2)]
        await asyncio.sleep(0.1)  # by now, the robots are connected
        await attack(port)
        return await asyncio.gather(*robots)

    found, texts = served(model.stream, everything, n_threads=1, max_clients=20)
    assert any(answer in text for text in texts), texts
    for seed, lines in enumerate(found):
        own = [list(line["probabilities"].values()) for line in lines]
        assert own == decided(model, signal(3, seed))
        assert max(line["late_s"] for line in lines) < HOP_S


def test_each_of_ten_robots_gets_the_decisions_of_its_own_stream(model):
    async def ten(port):
        return await asyncio.gather(*[good(port, seed, pause_s=0) for seed in range(10)])

    found, texts = served(model.stream, ten, n_threads=2)
    for seed, lines in enumerate(found):
        own = [list(line["probabilities"].values()) for line in lines]
        assert own == decided(model, signal(3, seed))
    assert sum(text.endswith("connected") for text in texts) == 10


def test_decisions_that_are_more_than_a_hop_late_are_reported(model):
    def hurried():
        """Return a stream whose hop is so short that every decision is late."""
        made = model.stream()
        made.hop_s = 1e-9
        return made

    _, texts = served(hurried, lambda port: good(port, 0, pause_s=0))
    assert any("falls behind" in text and "late" in text for text in texts)


def test_an_invalid_port_is_refused(model):
    with pytest.raises(InputError, match="--tcp"):
        asyncio.run(serve(model.stream, "robot:port"))


@pytest.mark.parametrize("kind", ["one sensor", "several"])
def test_an_endless_line_is_refused_before_it_fills_the_memory(kind):
    parser = live.SampleParser("csv", NAMES)
    if kind == "several":
        parser = live.SensorParser({"imu": NAMES}, None, {"imu": 10})
    list(parser.parts(b"imu,0,1,2\n" + b"7" * live.LONGEST_LINE))
    with pytest.raises(InputError, match="more than 65536 bytes"):
        list(parser.parts(b"7"))
