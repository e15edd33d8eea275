"""ITK's own warnings, kept instead of printed: many files of a data set share one oddity, reported once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk  # noqa: N813  # the name its own manual uses

_POINTER = re.compile(r"^\w+ \(0x[0-9a-fA-F]+\):\s*")
_state = threading.local()
_lock = threading.Lock()
_found: dict[str, set[str]] = {}


class _Collector(sitk.LoggerBase):  # type: ignore[misc]  # SimpleITK ships no types
    """Receives what ITK would write to stderr from C++; the names are SimpleITK's."""

    def DisplayText(self, text: str) -> None:  # noqa: N802
        """Plain text is dropped."""

    def DisplayErrorText(self, text: str) -> None:  # noqa: N802
        """An error also raises, so its text is not lost."""

    def DisplayWarningText(self, text: str) -> None:  # noqa: N802
        """Keep one warning under the file being read."""
        _keep(text)

    def DisplayGenericOutputText(self, text: str) -> None:  # noqa: N802
        """Generic output is where some image readers warn."""
        _keep(text)

    def DisplayDebugText(self, text: str) -> None:  # noqa: N802
        """Debug text is dropped."""


_collector: list[_Collector] = []


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While inside, this thread's ITK warnings are kept under ``path``."""
    with _lock:
        if not _collector:
            # Held for the life of the process: SimpleITK keeps a bare pointer to it.
            _collector.append(_Collector())
            _collector[0].SetAsGlobalITKLogger()
    _state.path = str(path)
    try:
        yield
    finally:
        _state.path = ""


def collected_warnings(*, clear: bool = False) -> dict[str, tuple[str, ...]]:
    """Warning text, without pointers and paths, to the files that caused it.

    Args:
        clear: Forget them afterwards.
    """
    with _lock:
        copy = {text: tuple(sorted(paths)) for text, paths in sorted(_found.items())}
        if clear:
            _found.clear()
    return copy


def _keep(text: str) -> None:
    path = getattr(_state, "path", "")
    lines = [line for line in text.strip().splitlines() if line and not line.startswith("WARNING: In ")]
    for line in lines:
        short = _POINTER.sub("", line)
        short = short.replace(path, "the file") if path else short
        with _lock:
            _found.setdefault(short, set()).add(path)
