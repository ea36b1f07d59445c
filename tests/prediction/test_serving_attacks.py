"""No connection can disturb others: attacks on the server while two well-behaved robots use it."""

import asyncio
import json
import os

import numpy as np
import pytest
from fits import plain_classifier

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


async def good(port, seed):
    """Send three seconds of samples in real time; return the decisions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"cur,vel\n")
    for part in np.split(signal(3, seed), 15):
        writer.write("".join(f"{a!r},{b!r}\n" for a, b in part.tolist()).encode())
        await asyncio.sleep(0.2)
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
    texts = []

    async def everything():
        port = asyncio.get_running_loop().create_future()
        options = {"n_threads": 1, "max_clients": 20, "say": texts.append}
        server = asyncio.ensure_future(serve(model.stream, "0", **options, ready=port.set_result))
        try:
            number = await port
            robots = [asyncio.ensure_future(good(number, seed)) for seed in range(2)]
            await asyncio.sleep(0.1)  # by now, the robots are connected
            await attack(number)
            return await asyncio.gather(*robots)
        finally:
            server.cancel()
            await asyncio.sleep(0.3)  # by now, all connections are closed

    found = asyncio.run(asyncio.wait_for(everything(), 60))
    assert any(answer in text for text in texts), texts
    for lines in found:
        assert len(lines) == 3
        assert max(line["late_s"] for line in lines) < HOP_S


@pytest.mark.parametrize("kind", ["one sensor", "several"])
def test_an_endless_line_is_refused_before_it_fills_the_memory(kind):
    parser = live.SampleParser("csv", NAMES)
    if kind == "several":
        parser = live.SensorParser({"imu": NAMES}, None, {"imu": 10})
    list(parser.parts(b"imu,0,1,2\n" + b"7" * live.LONGEST_LINE))
    with pytest.raises(InputError, match="more than 65536 bytes"):
        list(parser.parts(b"7"))
