"""A real server in a process of its own: where it listens, what it says, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.service.loopback_server import FIRST_PORT, PORTS, link, loopback_socket

SERVER = """
import sys, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from fewlabel.service.loopback_server import link, loopback_socket, serve_until_stopped
from fewlabel.service.protection import protected

def slow(request):
    time.sleep(0.5)
    return PlainTextResponse("whole")

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("there")), Route("/slow", slow)])
bound = loopback_socket()
serve_until_stopped(
    protected(app, "secret", largest_body=10), bound, lambda: print(link(bound, "secret"), flush=True)
)
print("stopped", flush=True)
"""


@contextmanager
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its link as it says it."""
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_answers_on_loopback_alone_and_ends_without_a_word(number: int) -> None:
    with running() as (process, url):
        assert get(url) == "there"
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(url.replace("secret", "wrong"))
        with refused.value as answer:
            assert answer.code == 401
            assert "server" not in answer.headers
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_a_request_under_way_is_answered_before_the_end() -> None:
    with running() as (process, url):
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
            asking.sendall(b"GET /slow?token=secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            # A second one is answered meanwhile, so the first is under way.
            get(url)
            process.send_signal(signal.SIGINT)
            told = b""
            while piece := asking.recv(4096):
                told += piece
        assert told.endswith(b"whole")
        assert process.wait(timeout=20) == 0


def test_a_port_in_use_is_named_and_the_next_free_one_is_taken() -> None:
    with loopback_socket() as first, loopback_socket() as second:
        one, two = first.getsockname()[1], second.getsockname()[1]
        assert FIRST_PORT <= one < two < FIRST_PORT + PORTS
        assert first.getsockname()[0] == "127.0.0.1"
        assert link(first, "t") == f"http://127.0.0.1:{one}/?token=t"
        with pytest.raises(SettingsError, match=f"port: {one} is in use by another program. Give another one"):
            loopback_socket(one)
    with loopback_socket(two) as again:
        assert again.getsockname()[1] == two


def test_no_free_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_socket() as taken:
        monkeypatch.setattr("fewlabel.service.loopback_server.FIRST_PORT", taken.getsockname()[1])
        monkeypatch.setattr("fewlabel.service.loopback_server.PORTS", 1)
        with pytest.raises(SettingsError, match="none of the ports"):
            loopback_socket()
