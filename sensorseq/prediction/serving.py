"""Streams of many robots in one process: each TCP connection sends samples and gets decisions."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sensorseq.base.checks import check_integer
from sensorseq.errors import InputError, SensorseqError
from sensorseq.prediction.live import (
    AnyParser,
    address_of,
    explain,
    parser_for,
    summary_of,
)
from sensorseq.prediction.stream import DecisionStream, StreamDecision

_BLOCK = 1 << 13  # bytes classified at a time, so that no robot occupies a thread for long
_MOST_WAITING = 32  # maximum number of blocks of a connection that are read but not yet classified
MOST_CLIENTS = 64
_SILENT_S = 10.0  # a robot that was silent for this time makes room for another one
_LOST_S = 60  # a connection whose other end does not respond for this time is lost
_PATIENCE_S = 0.2  # time granted to a robot that is refused, or that does not read decisions


@dataclass(eq=False)
class _Robot:
    """A connection, and when it last sent data."""

    name: str
    heard_s: float = field(default_factory=time.monotonic)
    has_sent: bool = False
    talking: "asyncio.Future[Any] | None" = None
    problem: str | None = None

    def hear(self) -> None:
        """Note that the robot sent data, or that its data were classified."""
        self.heard_s, self.has_sent = time.monotonic(), True


def silent_robot(robots: Iterable[_Robot], now_s: float) -> _Robot | None:
    """Return the robot that makes room for another one; None if all have sent data recently.

    Robots that never sent data come first, so that new silent connections replace each other.
    """
    silent = [robot for robot in robots if not robot.has_sent or now_s - robot.heard_s >= _SILENT_S]
    return min(silent, key=lambda robot: (robot.has_sent, robot.heard_s), default=None)


async def serve(
    make_stream: Callable[[], DecisionStream],
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
    is flushed. A connection whose other end does not respond for a minute is closed.

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
        Maximum number of simultaneous connections. A further connection replaces the connection
        that has been silent longest, if that one never sent data or was silent for 10 s; otherwise
        the further connection is refused. The connection that ends gets a line with ``"error"``.
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
    robots: set[_Robot] = set()
    with ThreadPoolExecutor(n_threads) as pool:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            robot = _Robot("{}:{}".format(*writer.get_extra_info("peername")[:2]))
            # When the server ends, this task is cancelled; Python 3.11 would log that as an error.
            with suppress(asyncio.CancelledError):
                if len(robots) >= max_clients:
                    make_room()
                if len(robots) >= max_clients:
                    robot.problem = (
                        f"there are already {max_clients} connections, the maximum number."
                    )
                else:
                    _detect_loss(writer.get_extra_info("socket"))
                    robots.add(robot)
                    robot.talking = asyncio.ensure_future(talk(robot, reader, writer))
                    try:
                        await asyncio.wait([robot.talking])
                        if not robot.talking.cancelled():  # by `make_room`
                            robot.talking.result()
                    finally:
                        robot.talking.cancel()
                        robots.discard(robot)
                if robot.problem is not None:
                    say(f"{robot.name}: {robot.problem}")
                    await _send_error(reader, writer, robot.problem)
                await _close(writer)
                say(f"{robot.name}: closed")

        def make_room() -> None:
            """End the connection of a silent robot, if there is one."""
            now_s = time.monotonic()
            robot = silent_robot(robots, now_s)
            if robot is not None and robot.talking is not None:
                robots.discard(robot)
                robot.problem = (
                    f"there are already {max_clients} connections, the maximum number, and this"
                    f" one has sent no data for {now_s - robot.heard_s:.0f} s, so it makes room"
                    " for another."
                )
                robot.talking.cancel()

        async def talk(
            robot: _Robot, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            """Classify a robot's samples; set the error that ends the connection, if any."""
            say(f"{robot.name}: connected")
            try:
                stream = make_stream()
                parser = parser_for(stream, sample_format, time_column)
                await _classify(stream, parser, reader, writer, pool, robot, say)
            except SensorseqError as error:
                robot.problem = " ".join([str(error), *getattr(error, "__notes__", ())])
            except OSError as error:
                say(f"{robot.name}: the connection was lost ({error})")

        try:
            server = await asyncio.start_server(handle, host, port)
        except OSError as error:
            raise InputError(f"cannot listen on TCP port {address}: {error.strerror}.") from error
        async with server:
            if ready is not None:
                ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()


def _detect_loss(connection: socket.socket) -> None:
    """Let the system detect that the other end of a connection is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _LOST_S // 2),
        ("TCP_KEEPALIVE", _LOST_S // 2),  # its name on macOS
        ("TCP_KEEPINTVL", _LOST_S // 6),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 1000 * _LOST_S),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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
    stream: DecisionStream,
    parser: AnyParser,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pool: ThreadPoolExecutor,
    robot: _Robot,
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
            if data:
                robot.hear()
            await waiting.put((time.monotonic(), data))

    n_samples = 0

    def decide(data: bytes) -> tuple[list[StreamDecision], SensorseqError | None]:
        """Return the decisions before the first error, and this error."""
        nonlocal n_samples
        decisions: list[StreamDecision] = []
        try:
            with explain(parser):
                for part in parser.parts(data, whole=not data):
                    n_samples += len(part.values)
                    decisions += stream.push(*part)
                return decisions if data else [*decisions, *stream.flush()], None
        except SensorseqError as error:
            return decisions, error

    receiving = asyncio.ensure_future(receive())
    try:
        data: bytes | OSError = b"start"
        while data:
            arrival_s, data = await waiting.get()
            if isinstance(data, OSError):
                raise data
            decisions, problem = await loop.run_in_executor(pool, decide, data)
            for decision in decisions:
                late_s = time.monotonic() - arrival_s
                fields = {**decision.to_dict(stream.classes), "late_s": late_s}
                writer.write(json.dumps(fields).encode() + b"\n")
                if (late_s > stream.hop_s) != is_late:
                    is_late = not is_late
                    behind = f"falls behind: a decision is {late_s:.2f} s late"
                    say(f"{robot.name}: {behind if is_late else 'keeps up again'}")
            await writer.drain()
            robot.hear()
            if problem is not None:
                raise problem
        say(f"{robot.name}: {summary_of(n_samples, parser, stream)}")
    finally:
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving
