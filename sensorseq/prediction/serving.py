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

_BLOCK = 1 << 13  # bytes classified at a time, so that no robot occupies a thread for long
_MOST_WAITING = 32  # maximum number of blocks of a connection that are read but not yet classified
MOST_CLIENTS = 64
_PATIENCE_S = 0.2  # time granted to a robot that is refused, or that does not read decisions


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
    """Classify the samples of each connection with a separate stream, until cancelled.

    A decision is a line of JSON as written by `write_decisions`, but with ``late_s`` instead of
    ``compute_s``. The value ``late_s`` is the time since the arrival of the last sample needed for
    the decision. If the data of a connection cannot be read, the connection gets a line with
    ``"error"`` and is closed; the other connections continue. When a robot's data end, its stream
    is flushed.

    Parameters
    ----------
    make_stream : callable
        Returns a new stream for a connection.
    address : str
        The address ``[HOST:]PORT`` to listen on; port 0 chooses a free port.
    sample_format, time_column
        As in `parser_for`.
    n_threads : int, default=1
        Maximum number of streams that are computed at the same time.
    max_clients : int, default=64
        Maximum number of simultaneous connections; any further connection gets a line with
        ``"error"`` and is closed.
    say : callable
        Called with a message for each connection and error, and when a robot's decisions become
        more than a hop late, or catch up.
    ready : callable, optional
        Called with the port when the server begins to listen.

    Raises
    ------
    InputError
        If the server cannot listen on the address.
    """
    host, port = address_of("--tcp", address)
    check_integer("max_clients", max_clients, 1)
    n_clients = 0
    with ThreadPoolExecutor(n_threads) as pool:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal n_clients
            name = "{}:{}".format(*writer.get_extra_info("peername")[:2])
            # When the server ends, this task is cancelled; Python 3.11 would log that as an error.
            with suppress(asyncio.CancelledError):
                if n_clients >= max_clients:
                    problem: str | None = (
                        f"there are already {max_clients} connections, the maximum number."
                    )
                else:
                    n_clients += 1
                    try:
                        problem = await talk(name, reader, writer)
                    finally:
                        n_clients -= 1
                if problem is not None:
                    say(f"{name}: {problem}")
                    await _send_error(reader, writer, problem)
                await _close(writer)
                say(f"{name}: closed")

        async def talk(
            name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> str | None:
            """Classify a robot's samples; return the error that ends the connection, if any."""
            say(f"{name}: connected")
            try:
                stream = make_stream()
                parser = parser_for(stream, sample_format, time_column)
                await _classify(stream, parser, reader, writer, pool, name, say)
            except SensorseqError as error:
                return str(error)
            except OSError as error:
                say(f"{name}: the connection was lost ({error})")
            return None

        try:
            server = await asyncio.start_server(handle, host, port)
        except OSError as error:
            raise InputError(f"cannot listen on TCP port {address}: {error.strerror}.") from error
        async with server:
            if ready is not None:
                ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()


async def _send_error(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, problem: str
) -> None:
    """Send an error, and read the robot's data, because unread data would reset the connection."""

    async def read_some() -> None:
        for _ in range(_MOST_WAITING):
            if not await reader.read(_BLOCK):
                break

    with suppress(OSError, asyncio.TimeoutError):
        writer.write(json.dumps({"error": problem}).encode() + b"\n")
        writer.write_eof()
        await asyncio.wait_for(read_some(), _PATIENCE_S)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, even if the robot does not read the data sent to it."""
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
        decisions = [decision for part in parts for decision in push(*part)]
        return decisions if data else [*decisions, *stream.flush()]

    receiving = asyncio.ensure_future(receive())
    try:
        data: bytes | OSError = b"start"
        while data:
            arrival_s, data = await waiting.get()
            if isinstance(data, OSError):
                raise data
            for decision in await loop.run_in_executor(pool, decide, data):
                late_s = time.monotonic() - arrival_s
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
