"""Streams of many robots in one process: each TCP connection sends samples and gets decisions."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sensorseq.checks import check_integer
from sensorseq.errors import InputError, SensorseqError
from sensorseq.prediction.live import AnyParser, AnyStream, address_of, parser_for
from sensorseq.prediction.stream import StreamDecision

_BLOCK = 1 << 13  # bytes that are decided at once, so that no robot takes a thread for long
_MOST_WAITING = 32  # blocks of a robot; then its connection is not read until some are decided
MOST_CLIENTS = 64
_PATIENCE_S = 0.2  # with a connection that is thrown out, or does not read what it is sent


async def serve(
    make_stream: Callable[[], AnyStream],
    address: str,
    *,
    sample_format: str = "csv",
    time_column: str | None = None,
    n_threads: int = 1,
    max_clients: int = MOST_CLIENTS,
    say: Callable[[str], None] = print,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Classify the samples of each connection by a stream of its own, until it is cancelled.

    A decision is a line of JSON as `write_decisions` writes it, but with ``late_s``, the time since
    its last sample came. A connection whose data cannot be read gets a line with ``"error"`` and is
    closed; the others go on. When a robot ends its data, what is left of its stream is decided.

    Parameters
    ----------
    make_stream : callable
        Returns a stream, for each connection a new one.
    address : str
        ``[HOST:]PORT`` to listen on; port 0 takes a free one.
    sample_format, time_column
        As in `parser_for`.
    n_threads : int, default=1
        Streams that are computed at the same time.
    max_clients : int, default=64
        Most connections at a time; another one gets a line with ``"error"`` and is closed.
    say : callable
        Is told of connections, of errors, and of a robot whose decisions come more than a hop late.
    ready : callable, optional
        Is called with the port.

    Raises
    ------
    InputError
        If it cannot listen on the address.
    """
    host, port = address_of("--tcp", address)
    check_integer("max_clients", max_clients, 1)
    n_clients = 0
    with ThreadPoolExecutor(n_threads) as pool:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal n_clients
            name = "{}:{}".format(*writer.get_extra_info("peername")[:2])
            # the end of the server cancels this; asyncio of Python 3.11 would log an error
            with suppress(asyncio.CancelledError):
                if n_clients >= max_clients:
                    why: str | None = f"there are {max_clients} connections, the most at a time."
                else:
                    n_clients += 1
                    try:
                        why = await talk(name, reader, writer)
                    finally:
                        n_clients -= 1
                if why is not None:
                    say(f"{name}: {why}")
                    await _throw_out(reader, writer, why)
                await _close(writer)
                say(f"{name}: closed")

        async def talk(
            name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> str | None:
            """Classify what a robot sends; return why it must go, if it must."""
            say(f"{name}: connected")
            try:
                stream = make_stream()
                parser = parser_for(stream, sample_format, time_column)
                await _classify(stream, parser, reader, writer, pool, name, say)
            except SensorseqError as error:
                return str(error)
            except OSError as error:
                say(f"{name}: the connection broke off ({error})")
            return None

        try:
            server = await asyncio.start_server(handle, host, port)
        except OSError as error:
            raise InputError(f"cannot listen on TCP port {address}: {error.strerror}.") from error
        async with server:
            if ready is not None:
                ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()


async def _throw_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, why: str) -> None:
    """Send an error; unread data would reset the connection before it arrives, so read some."""

    async def read_some() -> None:
        for _ in range(_MOST_WAITING):
            if not await reader.read(_BLOCK):
                break

    with suppress(OSError, asyncio.TimeoutError):
        writer.write(json.dumps({"error": why}).encode() + b"\n")
        writer.write_eof()
        await asyncio.wait_for(read_some(), _PATIENCE_S)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, though its robot may not read what it was sent."""
    writer.close()
    with suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), _PATIENCE_S)
    writer.transport.abort()


async def _classify(
    stream: AnyStream,
    parser: AnyParser,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pool: ThreadPoolExecutor,
    name: str,
    say: Callable[[str], None],
) -> None:
    """Read samples until the end, and write decisions."""
    loop, is_late = asyncio.get_running_loop(), False
    waiting: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(_MOST_WAITING)

    async def receive() -> None:
        data: bytes | OSError = b"start"
        while data and isinstance(data, bytes):
            try:
                data = await reader.read(_BLOCK)
            except OSError as error:
                data = error
            await waiting.put((time.monotonic(), data))

    push: Callable[..., list[StreamDecision]] = stream.push

    def decide(data: bytes) -> list[StreamDecision]:
        parts = parser.parts(data, whole=not data)
        decisions = [one for part in parts for one in push(*part)]
        return decisions if data else [*decisions, *stream.flush()]

    receiving = asyncio.ensure_future(receive())
    try:
        data: bytes | OSError = b"start"
        while data:
            came_s, data = await waiting.get()
            if isinstance(data, OSError):
                raise data
            for decision in await loop.run_in_executor(pool, decide, data):
                late_s = time.monotonic() - came_s
                fields = {**decision.to_dict(stream.classes), "late_s": late_s}
                writer.write(json.dumps(fields).encode() + b"\n")
                if (late_s > stream.hop_s) != is_late:
                    is_late = not is_late
                    behind = f"falls behind: a decision is {late_s:.2f} s late"
                    say(f"{name}: {behind if is_late else 'keeps up again'}")
            await writer.drain()
    finally:
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving
