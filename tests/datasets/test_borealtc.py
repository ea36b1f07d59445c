"""BorealTC is downloaded, checked, and continued after an interruption, from a local server."""

import contextlib
import hashlib
import shlex
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from commands import answer, refused, succeed

from sensorseq.datasets import borealtc, fetch_borealtc
from sensorseq.errors import EnvironmentProblemError, InputError, OutputError


def motors(seed):
    noise = np.random.default_rng(seed).normal(size=(300, 4)).round(3).tolist()
    rows = "".join(f"{i / 6.5!r},{','.join(map(str, row))}\n" for i, row in enumerate(noise))
    return ("time,curL,curR,velL,velR\n" + rows).encode()


MOTORS = motors(0)
FILES = {
    f"{label}/pro_0{number}.csv": motors(4 * at + number)
    for at, label in enumerate(("ICE", "SNOW"))
    for number in range(4)
}


class Server(ThreadingHTTPServer):
    """Serves `files`; `asked` lists the names and ranges, and `cut` shortens the next answers."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.cut, self.elsewhere = dict(FILES), [], 0, None
        self.ignores_ranges = False


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name, span = self.server, self.path.removeprefix("/"), self.headers["Range"]
        server.asked.append((name, span))
        if server.elsewhere is not None:
            self.send_response(302)
            self.send_header("Location", server.elsewhere)
            self.end_headers()
            return
        if name not in server.files:
            self.send_error(404)
            return
        body, start = server.files[name], 0
        if span and not server.ignores_ranges:
            start = int(span.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that refuses the size hangs up
            self.wfile.write(body[start : len(body) - server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(borealtc, "_ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(
            borealtc,
            "_files",
            lambda: [
                borealtc._File(hashlib.sha256(body).hexdigest(), len(body), name)
                for name, body in FILES.items()
            ],
        )
        yield server
        server.shutdown()
        thread.join()


def test_the_list_names_the_recordings_and_their_sizes():
    files = borealtc._files()
    names = [file.name for file in files]
    assert len(set(names)) == len(names) == 140
    assert sum("pro_" in name for name in names) == 72
    assert all(len(file.sha256) == 64 and 0 < file.size < 2**24 for file in files)
    assert not any(".." in name or name.startswith("/") for name in names)
    assert borealtc._ADDRESS.startswith("https://")


def test_files_are_downloaded_once(server, tmp_path):
    shown = []
    folder = fetch_borealtc(tmp_path / "set", progress=lambda *of: shown.append(of))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    total = sum(map(len, FILES.values()))
    assert shown[0] == (0, total)
    assert shown[-1] == (total, total)
    server.asked.clear()
    assert fetch_borealtc(folder) == folder
    assert not server.asked
    assert not list(folder.rglob("*.part"))


def test_the_default_folder_is_in_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch_borealtc() == tmp_path / "sensorseq" / "borealtc"


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_an_interrupted_download_continues(server, tmp_path, ignores_ranges):
    server.cut, server.ignores_ranges = 100, ignores_ranges
    with pytest.raises(EnvironmentProblemError, match=r"ICE/pro_00.csv .*100 bytes too early"):
        fetch_borealtc(tmp_path)
    server.cut = 0
    have = len(MOTORS) - 100
    fetch_borealtc(tmp_path)
    assert server.asked[1] == ("ICE/pro_00.csv", f"bytes={have}-")
    assert (tmp_path / "ICE" / "pro_00.csv").read_bytes() == FILES["ICE/pro_00.csv"]


def test_another_content_is_removed_and_never_becomes_a_recording(server, tmp_path):
    server.files["ICE/pro_00.csv"] = MOTORS[:-1] + b"x"
    with pytest.raises(EnvironmentProblemError, match="another content"):
        fetch_borealtc(tmp_path)
    assert not list(tmp_path.rglob("*.csv*"))


def test_a_larger_answer_is_refused_before_it_fills_the_disk(server, tmp_path):
    server.files["ICE/pro_00.csv"] = MOTORS + 10_000_000 * b"x"
    with pytest.raises(EnvironmentProblemError, match="larger than"):
        fetch_borealtc(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.part")) <= len(MOTORS)


@pytest.mark.parametrize("to", ["https://127.0.0.1/x", "http://localhost/x", "file:///etc/passwd"])
def test_redirects_to_other_places_are_refused(server, tmp_path, to):
    server.elsewhere = to
    with pytest.raises(EnvironmentProblemError, match=r"refused|HTTP 302"):
        fetch_borealtc(tmp_path)


def test_a_missing_file_and_no_network_say_where_to_put_the_files(server, tmp_path, monkeypatch):
    del server.files["ICE/pro_00.csv"]
    with pytest.raises(EnvironmentProblemError, match=r"HTTP 404.*copy the folders .* to "):
        fetch_borealtc(tmp_path)
    monkeypatch.setattr(borealtc, "_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(EnvironmentProblemError, match=r"refused.*copy the folders .* to "):
        fetch_borealtc(tmp_path)


def test_a_foreign_file_of_the_same_name_stays(server, tmp_path):
    (tmp_path / "ICE").mkdir()
    mine = tmp_path / "ICE" / "pro_00.csv"
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"pro_00.csv: is another file"):
        fetch_borealtc(tmp_path)
    assert mine.read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_an_error(server, tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        fetch_borealtc(tmp_path / "set")


def test_the_command_prints_a_line_that_works(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = succeed("fetch", "borealtc", "-o", "a set").splitlines()[-1]
    for left_out in ("MIXED/pro_00.csv", "SNOW/pro_12.csv"):
        file = tmp_path / "a set" / left_out
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(MOTORS)
    made = " ".join(succeed(*shlex.split(line)[1:]).split())
    assert "Channels: curL, curR, velL, velR" in made
    assert (tmp_path / "terrain" / "page.html").exists()
    assert answer("fetch", "borealtc", "-o", "a set")["run"] == line


def test_the_command_refuses_unknown_names():
    assert "Known: borealtc" in refused(2, "fetch", "imagenet")
