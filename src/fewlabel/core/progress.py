"""Progress of long work, sent to a listener: the command line shows a bar, a library call stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, TypeVar


class Bar(Protocol):
    """One running task."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done; ``note`` is shown beside the bar."""


class Listener(Protocol):
    """Whoever shows progress."""

    def start(self, title: str, total: int, done: int) -> Bar:
        """A task of ``total`` units begins, ``done`` of them done before."""

    def finish(self, bar: Bar) -> None:
        """The task has ended, well or not."""

    def say(self, text: str) -> None:
        """One line for the user."""


Heard = TypeVar("Heard", bound=Listener)


class _Silence:
    def start(self, title: str, total: int, done: int) -> Bar:  # noqa: ARG002
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """Nothing is shown."""

    def finish(self, bar: Bar) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


#: Who listens, and above it those who take its place for a while; the last one hears.
_listener: list[Listener] = [_Silence()]
_changing = Lock()


def listen(listener: Listener) -> None:
    """Send all progress to ``listener`` from now on."""
    _listener[0] = listener


def say(text: str) -> None:
    """Tell the user one line."""
    _listener[-1].say(text)


@contextmanager
def passing_through(make: Callable[[Listener], Heard]) -> Iterator[Heard]:
    """Within, progress goes to another listener, which is given the usual one to pass things on to."""
    with _in_place(make(_listener[-1])) as made:
        yield made


@contextmanager
def silence() -> Iterator[None]:
    """Show nothing within: for work that is not part of what the user waits for."""
    with _in_place(_Silence()):
        yield


@contextmanager
def _in_place(listener: Heard) -> Iterator[Heard]:
    """Threads may end theirs in any order: each takes away its own, and brings back nobody's."""
    with _changing:
        _listener.append(listener)
    try:
        yield listener
    finally:
        with _changing:
            del _listener[next(at for at, each in enumerate(_listener) if each is listener)]


@contextmanager
def task(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A task of ``total`` units; call ``advance`` on what this yields."""
    listener = _listener[-1]
    bar = listener.start(title, total, done)
    try:
        yield bar
    finally:
        listener.finish(bar)
