"""Lines of a live stream mean the same whole, line by line and in any blocks."""

import asyncio
import io
import json
import socket
from types import SimpleNamespace

import numpy as np
import pytest
from live_lines import cut, draw_lines, read_parts
from robots import served

from sensorseq.errors import InputError, SignalError
from sensorseq.prediction import live, serving

NAMES = ("cur", "gyr", "acc")


def joined(parts, n_channels):
    stamps = [part.timestamps_s for part in parts if part.timestamps_s is not None]
    values = np.concatenate([np.empty((0, n_channels)), *(part.values for part in parts)])
    return values, np.concatenate(stamps) if stamps else None


def assert_read(found, values, stamps):
    np.testing.assert_array_equal(found[0], values)
    assert (found[1] is None) == (stamps is None or not len(values))
    if found[1] is not None:
        np.testing.assert_array_equal(found[1], stamps)


@pytest.mark.parametrize("seed", range(60))
def test_lines_mean_the_same_in_any_blocks(seed):
    rng = np.random.default_rng([seed, 1])
    drawn = draw_lines(rng)
    for blocks in (
        [drawn.data],
        drawn.data.splitlines(keepends=True),
        *(cut(rng, drawn.data) for _ in range(3)),
    ):
        parser = live.SampleParser("csv", drawn.channels, most=25)
        parts, problem, n_unreadable = read_parts(parser, blocks)
        assert problem == ""
        assert_read(joined(parts, len(drawn.channels)), drawn.values, drawn.stamps)
        assert n_unreadable == drawn.n_unreadable
        assert max(len(part.values) for part in parts) <= 25


@pytest.mark.parametrize("seed", range(20))
def test_lines_of_several_sensors_mean_the_same_in_any_blocks(seed):
    rng = np.random.default_rng([seed, 2])
    drawn = {name: draw_lines(rng, name=name) for name in ("imu", "motor")}
    lines = {name: each.data.splitlines(keepends=True) for name, each in drawn.items()}
    order = rng.permutation([name for name in lines for _ in lines[name]])
    data = b"".join(lines[name].pop(0) for name in order)
    for blocks in ([data], data.splitlines(keepends=True), cut(rng, data)):
        channels = {name: each.channels for name, each in drawn.items()}
        parser = live.SensorParser(channels, None, {"imu": 60, "motor": 3})
        parts, problem, n_unreadable = read_parts(parser, blocks)
        assert problem == ""
        for name, each in drawn.items():
            own = [part for part in parts if part.sensor == name]
            assert_read(joined(own, len(each.channels)), each.values, each.stamps)
        assert n_unreadable == sum(each.n_unreadable for each in drawn.values())


X = [[1.5, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
ROWS = "1.5,2,3\n4,5,6\n7,8,9\n"
T_ROWS = "0.1,1.5,2,3\n0.2,4,5,6\n0.3,7,8,9\n"


@pytest.mark.parametrize(
    ("text", "n_samples", "n_unreadable"),
    [
        ("cur,gyr,acc\n" + ROWS, 3, 0),
        ("\ufeffcur,gyr,acc\n" + ROWS, 3, 0),
        ('"cur" , "gyr","acc",\n' + ROWS, 3, 0),
        ("cur,gyr,acc\n" + ROWS.replace("\n", ",\r\n"), 3, 0),
        ("time,cur,gyr,acc\ns,A,rad/s,m/s2\n" + T_ROWS, 3, 1),  # a line of units
        ("Ready!\nBoot v1.2\n2.5\n" + ROWS, 3, 3),
        ("Ready!\n# 3 sensors\ntime,cur,gyr,acc\n" + T_ROWS, 3, 1),
        ("8,9\n" + ROWS, 3, 1),
        ("# 3 logs, of a, robot\n" + ROWS, 3, 0),
        ("7,8,9\n" + T_ROWS, 3, 1),  # a fragment as long as the channels
        ("au,3\n" + T_ROWS, 3, 1),
        ("NA,NA,NA\n" + ROWS, 3, 1),  # values, not names
        (ROWS.replace("\n", ",\n"), 3, 0),
        (T_ROWS.replace("\n", ",\n"), 3, 0),
        (ROWS + "7,8\n7,8,9,7,8,9\nReady!\n", 3, 3),
        ("time,cur,gyr,acc\n" + T_ROWS + "time,cur,gyr,acc\n", 3, 0),  # the logger started again
        (T_ROWS + "Boot v1.2\ntime,cur,gyr,acc\n", 3, 1),
        (ROWS.replace(",9", ","), 3, 0),
    ],
)
def test_headers_messages_and_fragments_are_told_apart(text, n_samples, n_unreadable):
    for blocks in ([text.encode()], text.encode().splitlines(keepends=True)):
        parts, problem, n = read_parts(live.SampleParser("csv", NAMES), blocks)
        values = np.array(X)
        if text == ROWS.replace(",9", ","):
            values[2, 2] = np.nan
        assert (problem, n) == ("", n_unreadable)
        np.testing.assert_array_equal(joined(parts, 3)[0], values[:n_samples])


NO_CUR = "the header has no channel 'cur'; it has {}."


@pytest.mark.parametrize(
    ("text", "n_samples", "message"),
    [
        ("Time,Gyr,Cur,Acc\n" + T_ROWS, 0, NO_CUR.format("Time, Gyr, Cur, Acc")),
        ("Time,Gyr,Cur,Acc,\n" + T_ROWS.replace("\n", ",\n"), 0, "Did you mean 'Cur'?"),
        ("t,w_z,i_motor,a_x\n" + T_ROWS, 0, NO_CUR.format("t, w_z, i_motor, a_x")),
        ("%time,field.gyr,field.cur,field.acc\n" + T_ROWS, 0, "it has time, field.gyr, field.cur"),
        ("# 3 logs, old, of a, b\n#Time,Gyr,Cur,Acc\n" + T_ROWS, 0, "it has Time, Gyr, Cur, Acc."),
        ("a_x;m,i [A],w (rad/s)\n" + ROWS, 0, NO_CUR.format("a_x;m, i [A], w (rad/s)")),
        ("Booting\nTime,Gyr,Cur,Acc\nms,rad/s,A,g\n" + T_ROWS, 0, "it has Time, Gyr, Cur, Acc."),
        ("Time,Gyr,Cur,Acc,Temp\n0.1,1,2,3,4\n", 0, "has no channel 'cur'"),
        ("cur [A],gyr,acc\n" + ROWS, 0, "Did you mean 'cur [A]'?"),
        ("time,cur,gyr\n" + T_ROWS, 0, "no channel 'acc'"),
        (ROWS + "gyr,cur,acc\n4,5,6\n", 3, "a later header (gyr, cur, acc) does not fit"),
        (ROWS + "time,cur,gyr,acc\n" + T_ROWS, 3, "does not fit the earlier lines"),
        (T_ROWS + "Time,Gyr,Cur,Acc\n" + T_ROWS, 3, NO_CUR.format("Time, Gyr, Cur, Acc")),
        ("cur,gyr,acc\n" + ROWS + "acc,gyr,cur\n" + ROWS, 3, "a later header (acc, gyr, cur)"),
        ("cur;gyr;acc\n" + ROWS.replace(",", ";") * 9, 0, "separated by commas"),
        ("cur,gyr,acc,temp\n" + ROWS * 9, 0, "the first 20 lines are not samples"),
    ],
)
def test_a_header_of_other_columns_is_an_error_after_the_samples_before_it(
    text, n_samples, message
):
    for blocks in ([text.encode()], text.encode().splitlines(keepends=True)):
        parts, problem, _ = read_parts(live.SampleParser("csv", NAMES), blocks)
        assert sum(len(part.values) for part in parts) == n_samples
        assert message in problem


def text_of(table, end="\n"):
    return "".join(",".join(f"{v:.6g}" for v in row) + end for row in np.asarray(table).tolist())


NOISE = np.random.default_rng(4).normal(size=(60, 4))
T = np.arange(60)[:, None] / 50


@pytest.mark.parametrize(
    ("text", "n_fields", "message"),
    [
        (text_of(NOISE[:, :3], ",\n"), 3, ""),
        (text_of(np.hstack([5 * T, NOISE[:, :2]]), ",\n"), 3, ""),  # rises, but not as the time
        (text_of(np.hstack([T, NOISE[:, :2]]), ",\n"), 3, ""),  # a value missing in every line?
        (text_of(np.hstack([1e6 * T, NOISE[:, :2]]), ",\n"), 3, ""),
        (
            text_of(np.hstack([T, NOISE[:, :2]]), ",\n") + text_of(NOISE),
            3,
            "the last field was empty in the first",
        ),
        # The last channel has its first value late, but before the columns are guessed.
        (
            text_of(np.hstack([T, NOISE[:, :2]])[:9], ",\n")
            + text_of(np.hstack([T, NOISE[:, :3]])[9:]),
            4,
            "",
        ),
        (
            text_of(NOISE[:40, :3], ",\n") + text_of(NOISE),
            3,
            "the last field was empty in the first",
        ),
        (text_of(np.hstack([T, NOISE[:, :3]]), ",\n"), 4, ""),
        (text_of(NOISE), 4, "the first field decreases too often for a time"),
        (text_of(np.hstack([T, NOISE[:, :3]])), 4, ""),
    ],
)
def test_a_guess_about_the_time_is_checked(text, n_fields, message):
    lines = text.encode().splitlines(keepends=True)
    answers = set()
    for blocks in ([text.encode()], lines, cut(np.random.default_rng(0), text.encode())):
        parser = live.SampleParser("csv", NAMES)
        parts, problem, n_unreadable = read_parts(parser, blocks)
        values, stamps = joined(parts, 3)
        answers.add((len(values), problem, n_unreadable, stamps is None))
        assert message in problem
        assert bool(problem) == bool(message)
        if n_fields:
            first = np.array(
                [[*map(float, row.split(b",")[:n_fields])] for row in lines[9 : len(values)]]
            )
            np.testing.assert_array_equal(values[9:], first[:, n_fields - 3 :])
    assert len(answers) == 1


def test_a_time_column_needs_a_header():
    with pytest.raises(InputError, match="have no header, so the time column 'tick' is unknown"):
        live.SampleParser("csv", NAMES, "tick").feed(T_ROWS.encode(), whole=True)


class CountingStream:
    """A stream that makes one decision per sample: its first channel."""

    classes, hop_s, latency_s, sample_rate_hz = [], 1.0, 0.0, 50.0
    channels, counts = NAMES, {"n_infinite": 2, "n_bad_stamps of imu": 1}

    def push(self, values, stamps=None):
        if np.isinf(values).any():
            raise SignalError("infinite")
        return [
            SimpleNamespace(to_dict=lambda classes, x=x: {"x": x}) for x in values[:, 0].tolist()
        ]

    def flush(self):
        return []


def decided(text):
    return [json.loads(line).get("x") for line in text.splitlines()]


def parser_of(stream, kind, time_column):
    return live.SampleParser(kind, stream.channels, time_column, most=5)


BEFORE_AN_ERROR = [
    ("cur,gyr,acc\n" + ROWS + "gyr,cur,acc\n" + ROWS, [1.5, 4.0, 7.0], "a later header"),
    (ROWS + "9" * (live.LONGEST_LINE + 1), [1.5, 4.0, 7.0], "more than 65536 bytes"),
    (ROWS * 5 + "inf,2,3\n" + ROWS, [1.5, 4.0, 7.0] * 5, "infinite"),
    (text_of(NOISE), [float(f"{x:.6g}") for x in NOISE[:19, 1]], "decreases too often"),
]


@pytest.mark.parametrize(("text", "before", "message"), BEFORE_AN_ERROR)
def test_decisions_before_an_error_are_written(text, before, message):
    stream, out = CountingStream(), io.StringIO()
    parser = parser_of(stream, "csv", None)
    with pytest.raises(InputError, match=message):
        live.write_decisions(stream, parser.parts(text.encode(), whole=True), out)
    assert decided(out.getvalue()) == before


def served_in_turn(monkeypatch, robots, **options):
    """Serve robots, which are coroutine functions of a port, one after the other."""
    monkeypatch.setattr(serving, "parser_for", parser_of)

    async def one_after_the_other(port):
        return [await robot(port) for robot in robots]

    return served(CountingStream, one_after_the_other, **options)


def sending(text):
    async def robot(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text.encode())
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer.decode()

    return robot


@pytest.mark.parametrize(("text", "before", "message"), BEFORE_AN_ERROR)
def test_a_robot_gets_the_decisions_before_an_error_and_then_the_error(
    monkeypatch, text, before, message
):
    (answer,), texts = served_in_turn(monkeypatch, [sending(text)])
    assert decided(answer) == [*before, None]
    error = json.loads(answer.splitlines()[-1])["error"]
    assert message in error
    assert ("the first field of each line was read as the time" in error) == ("too often" in error)
    assert any(message in text for text in texts)


def test_the_counts_of_a_robot_are_reported_in_words(monkeypatch):
    (answer,), texts = served_in_turn(monkeypatch, [sending("cur,gyr,acc\n" + ROWS + "1,2\n")])
    assert decided(answer) == [1.5, 4.0, 7.0]
    assert "samples 3, unreadable 1, infinite 2, bad stamps of imu 1" in " ".join(texts)


def test_silent_connections_make_room_for_robots_that_send_data(monkeypatch):
    opened = []

    async def silent(port):
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(0.02)

    async def talking(port):
        await silent(port)
        opened[-1][1].write(b"1,2,3\n4,5,6\n")
        return await opened[-1][0].readline()

    async def still_talking(port):
        reader, writer = opened[1]  # the second connection sent data
        writer.write(b"7,8,9\n")
        await reader.readline()
        return await reader.readline()

    async def ended(port):
        answers = [(await opened[i][0].read()).decode() for i in (0, 2)]
        for _, writer in opened:
            writer.close()
        return answers

    robots = [silent, talking, silent, silent, *[silent] * 6, still_talking, talking, ended]
    found, texts = served_in_turn(monkeypatch, robots, max_clients=4)
    assert [json.loads(line)["x"] for line in (found[1], found[-3], found[-2])] == [1.0, 7.0, 1.0]
    assert all(
        "has sent no data for 0 s, so it makes room for another." in text for text in found[-1]
    )
    assert sum("makes room" in text for text in texts) == 7


def test_a_robot_beyond_the_maximum_is_refused_while_the_others_send_data(monkeypatch):
    opened = []

    async def talking(port):
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        opened[-1][1].write(b"1,2,3\n4,5,6\n")
        return await opened[-1][0].readline()

    async def ended(port):
        for _, writer in opened:
            writer.close()

    robots = [talking, talking, sending("1,2,3\n4,5,6\n"), ended]
    found, _ = served_in_turn(monkeypatch, robots, max_clients=2)
    assert [json.loads(line)["x"] for line in found[:2]] == [1.0, 1.0]
    assert "there are already 2 connections, the maximum number." in found[2]


def test_a_robot_that_sent_data_lately_keeps_its_place():
    def robot(name, has_sent, silent_s):
        return serving._Robot(name, heard_s=100.0 - silent_s, has_sent=has_sent)

    new, old = robot("new", False, 0.0), robot("old", False, 5.0)
    slow, fast, lost = (
        robot("slow", True, 9.9),
        robot("fast", True, 0.02),
        robot("lost", True, 60.0),
    )
    for robots, expected in (
        ([fast, slow], None),
        ([fast, slow, lost], lost),
        ([fast, slow, lost, new], new),
        ([new, old, lost, fast], old),
    ):
        assert serving.silent_robot(robots, 100.0) is expected
        assert serving.silent_robot(robots[::-1], 100.0) is expected


def test_connections_are_checked_for_loss(monkeypatch):
    found = []
    monkeypatch.setattr(
        serving, "_detect_loss", lambda connection, check=serving._detect_loss: (
            check(connection),
            found.append(connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
            found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)),
        )
    )  # fmt: skip
    served_in_turn(monkeypatch, [sending(ROWS)])
    assert found == [1, 60_000]


@pytest.fixture
def datagrams(monkeypatch):
    """Let `samples_of_udp` receive given datagrams."""

    class FakeSocket:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def bind(self, address):
            pass

        def recv(self, size):
            if not self.waiting:
                raise KeyboardInterrupt
            return self.waiting.pop(0)

    def received(parser, *waiting):
        said, parts = [], []
        FakeSocket.waiting = [
            data if isinstance(data, bytes) else data.encode() for data in waiting
        ]
        monkeypatch.setattr(live.socket, "socket", FakeSocket)
        try:
            for part in live.samples_of_udp("5005", parser, said.append):
                parts.append(part)
        except KeyboardInterrupt:
            pass
        return parts, said

    return received


BAD = {
    "another header": ("gyr,cur,acc\n", "a later header"),
    "unknown names": ("Time,Gyr,Cur\n", "no channel 'cur'"),
    "a header and rows": ("acc,gyr,cur\n" + ROWS, "a later header"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_datagram_that_cannot_be_read_is_left_out(datagrams, bad):
    text, message = BAD[bad]
    rows = ROWS.splitlines()
    parser = live.SampleParser("csv", NAMES)
    parts, said = datagrams(parser, *rows, *[text, "x\n", "", b"\xff\x00"] * 30, *rows)
    np.testing.assert_array_equal(joined(parts, 3)[0], [*X, *X])
    assert len(said) == 1
    assert message in said[0]
    assert parser.n_unreadable == 90


def test_a_datagram_that_ends_within_a_sample_is_left_out(datagrams):
    parser = live.SampleParser("float32", NAMES)
    whole = np.ones((2, len(NAMES)), "<f4").tobytes()
    parts, _ = datagrams(parser, whole, b"\0" * 5, whole)
    np.testing.assert_array_equal(joined(parts, len(NAMES))[0], np.ones((4, len(NAMES))))
    assert parser.n_unreadable == 1


def test_a_datagram_of_several_sensors_that_cannot_be_read_is_left_out(datagrams):
    parser = live.SensorParser({"imu": ("a", "b"), "gps": ("c",)}, None, {"imu": 9, "gps": 9})
    good = ["imu,0.1,1,2\n", "imu,0.2,3,4\n", "gps,0.1,5", "gps,0.2,6"]
    bad = ["imu,b,a\n", "imu,time,b,a\n", "imu,gyr,acc,mag\n"]
    parts, said = datagrams(parser, *good, *bad * 20, "imu,0.3,5,6", "gps,0.3,7")
    for name, values in (("imu", [[1, 2], [3, 4], [5, 6]]), ("gps", [[5], [6], [7]])):
        np.testing.assert_array_equal(
            joined([part for part in parts if part.sensor == name], 2 - (name == "gps"))[0], values
        )
    assert len(said) == 1
    assert parser.counts["n_unreadable datagrams"] == 60


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("csv", "a;b;c\n", "the first 20 lines are not samples"),
        ("csv", "Time,Gyr,Acc\n" + ROWS, "no channel 'cur'"),
        ("float32", b"\0" * 5, "end within a sample: 5 of 12 bytes"),
    ],
)
def test_a_stream_of_datagrams_that_begins_with_unreadable_ones_ends(
    datagrams, kind, data, message
):
    parser = live.SampleParser(kind, NAMES)
    datagrams(parser, *[data] * 9)  # so far, they may be from another sender
    with pytest.raises(InputError, match=message):
        datagrams(live.SampleParser(kind, NAMES), *[data] * 20)
