"""SECURITY.md names every command that opens a socket, and nothing else imports sockets."""

import ast
import json
import re
import sys

import pytest
from checkout import ROOT, run_process, tree_of
from commands import write_logs

OPENERS = """aiohttp asyncio boto3 botocore dask.distributed distributed fsspec ftplib grpc
             http.client http.server httpx huggingface_hub imaplib mlflow paramiko poplib requests
             multiprocessing.connection multiprocessing.managers s3fs selectors smtplib socket
             socketserver ssl telnetlib torch.distributed torch.hub torch.multiprocessing wandb
             urllib.request urllib3 webbrowser websocket websockets wsgiref xmlrpc zmq"""
COMMANDS = {  # in the table of SECURITY.md: the files that import sockets for them
    "sensorseq fetch": ["sensorseq/datasets/borealtc.py"],
    "sensorseq stream --udp PORT": ["sensorseq/prediction/live.py"],
    "sensorseq-run stream --udp PORT": ["sensorseq/prediction/live.py"],
    "sensorseq-run stream --tcp PORT": ["sensorseq/prediction/serving.py", "runtime/__main__.py"],
    "sensorseq prepare --engine dask": ["sensorseq/prepare/workers.py"],
    "sensorseq prepare --scheduler ADDRESS": ["sensorseq/prepare/workers.py"],
}


def imported(tree):
    """Yield the modules and names that a module imports, also in functions and by their name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def opens_sockets(tree):
    return any(
        f"{name}.".startswith(f"{opener}.") for name in imported(tree) for opener in OPENERS.split()
    )


def test_only_the_commands_in_the_table_import_sockets():
    files = [*(ROOT / "sensorseq").rglob("*.py"), *(ROOT / "runtime").rglob("*.py")]
    importers = {str(path.relative_to(ROOT)) for path in files if opens_sockets(tree_of(path))}
    assert importers == {name for names in COMMANDS.values() for name in names}


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("def f():\n    from urllib import request", True),
        ("import http.client", True),
        ("import_module('socket')", True),
        ("from urllib.parse import urlsplit", False),
        ("import sockets_of_my_own", False),
    ],
)
def test_an_import_of_sockets_is_found(code, is_found):
    assert opens_sockets(ast.parse(code)) == is_found


def test_the_page_has_a_row_for_each_of_these_commands():
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    section = page.partition("## What opens a socket")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE) == list(COMMANDS)


@pytest.mark.long
def test_other_commands_open_no_socket_and_ask_for_no_name(tmp_path):
    logs = write_logs(tmp_path / "logs")
    windows, model, page = (tmp_path / name for name in ("w.h5", "model", "page.html"))
    lines = [
        ["inspect", logs, "--html", tmp_path / "look.html", "-q"],
        ["prepare", logs, "--window-s", "1", "--jobs", "2", "-o", windows, "-q"],
        ["train", windows, "-o", model, "--max-epochs", "1", "--set", "refit=none", "-q"],
        ["evaluate", model, windows, "--no-baselines", "--report", page, "-q"],
        ["predict", model, logs, "-q"],
        ["info"],
    ]
    program = (
        "import json, sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, _: name.startswith('socket.') and seen.append(name))\n"
        "from sensorseq.cli import run\n"
        f"codes = [run(line) for line in {[[*map(str, line)] for line in lines]}]\n"
        "import socket\n"
        "n_opened = len(seen)\n"
        "socket.socket().close()\n"
        "print('\\n' + json.dumps([codes, seen[:n_opened], seen[n_opened:]]))\n"
    )
    done = run_process(sys.executable, "-c", program)
    assert done.stdout, done.stderr
    codes, opened, afterwards = json.loads(done.stdout.splitlines()[-1])
    assert (codes, opened, afterwards) == ([0] * len(lines), [], ["socket.__new__"])
