"""A server that only this machine reaches: its port, its link, and its end at Ctrl-C."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from fewlabel.core.errors import Fault, SettingsError, reason
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.service.token_check import QUERY

HOST = "127.0.0.1"
#: The port that is tried first where none is named, and how many after it.
FIRST_PORT, PORTS = 8600, 50
#: Seconds that requests under way have at the end.
_GRACE = 3


def loopback_socket(port: int | None = None) -> socket.socket:
    """A socket that is bound, so that nobody takes the port before the server listens.

    Args:
        port: The port; None for the first free one from :data:`FIRST_PORT` on.

    Raises:
        SettingsError: If the port is taken, or may not be used.
    """
    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # A port of a server that has just ended is free; on Windows the option would share one in use.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((HOST, candidate))
            # Binding alone does not fail everywhere.
            made.listen(128)
        except OSError as error:
            made.close()
            if port is not None:
                taken = error.errno == errno.EADDRINUSE
                problem = "is in use by another program" if taken else f"cannot be used: {reason(error)}"
                remedy = "Give another one, or leave it out for the next that is free"
                raise SettingsError("Nothing is served:", [Fault(f"{port} {problem}", "port", remedy)]) from error
        else:
            return made
    problem = f"none of the ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free"
    raise SettingsError("Nothing is served:", [Fault(problem, "port", "Name one that is")])


def link(bound: socket.socket, token: str) -> str:
    """Where a person opens what is served, token and all."""
    return f"http://{HOST}:{bound.getsockname()[1]}/?{QUERY}={token}"


def serve_until_stopped(app: ASGIApp, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C, SIGTERM or a closed terminal, which is how a server ends, not a failure.

    Requests under way have three seconds; another Ctrl-C ends them at once. Nothing is logged: links hold the token.

    Args:
        app: Behind :func:`fewlabel.service.protection.protected`.
        bound: As :func:`loopback_socket` makes it; closed in the end.
        ready: Called when requests are answered.

    Raises:
        RuntimeError: If the server ends by itself, as where the application fails to start.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # Of proxies there are none, and what they would say could be anybody's word.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server, ended = uvicorn.Server(config), threading.Event()

    def work() -> None:
        try:
            server.run(sockets=[bound])
        finally:
            ended.set()

    # Not in the main thread: there uvicorn would take the signals, and raise them once more when it is done. The main
    # one waits for an event, as a join that a signal interrupts may take the thread for ended.
    threading.Thread(target=work, name="server", daemon=True).start()
    with stopping_on_signals():
        try:
            while not (server.started or ended.wait(0.02)):
                pass
            if server.started:
                ready()
            while not ended.wait(0.5):
                pass
        except KeyboardInterrupt:
            _stop(server, ended)
            return
        finally:
            bound.close()
    raise RuntimeError("the server ended by itself")


def _stop(server: uvicorn.Server, ended: threading.Event) -> None:
    server.should_exit = True
    try:
        while not ended.wait(0.2):
            pass
    except KeyboardInterrupt:
        # What is cut short would be told with a traceback each.
        logging.getLogger("uvicorn.error").disabled = True
        server.force_exit = True
        ended.wait(_GRACE)
