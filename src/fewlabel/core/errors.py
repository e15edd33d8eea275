"""The exceptions a user can meet, and the exit code of each.

::

    FewlabelError
    ├── SettingsError      2    a setting, a command line or a recipe is wrong
    ├── DataError          3    scans, labels or metadata break a rule
    │   └── ArtifactError  3    a folder made by a stage is missing, of the wrong kind or changed
    ├── DivergedError      4    training left the finite numbers, or its embeddings collapsed
    ├── MemoryLimitError   5    the device or the machine ran out of memory
    ├── DiskFullError      6    there is no room on the disk
    ├── LostProcessError   7    another process of the same run ended or cannot be reached
    └── RunStoppedError     130  stopped by the user after saving
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from fewlabel.core.printable import printable

#: Not room enough: on the disk, by the user's quota, or for one file of the file system.
_DISK_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
#: Kinds of fault that other code looks for: a setting that nobody knows, and one that must be given and was not.
UNKNOWN, MISSING = "unknown", "missing"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: a short sentence, where it is, and what to do about it.

    Attributes:
        problem: A sentence without its full stop, lower case after a place: ``must be at least 1, not 0``.
        where: The setting, file or case; empty if the problem says it.
        remedy: A sentence without its full stop that begins with a capital: ``Check the path``.
        kind: ``UNKNOWN``, ``MISSING`` or empty.

    Example:
        >>> str(Fault("must be at least 1, not 0", "steps", "Leave it out for the default"))
        'steps: must be at least 1, not 0. Leave it out for the default.'
    """

    problem: str
    where: str = ""
    remedy: str = ""
    kind: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        # Names and messages of libraries are part of it, and no line of theirs is to pass for one of ours.
        return printable(" ".join(_sentence(part) for part in (f"{place}{self.problem}", self.remedy) if part))


def reason(error: Exception) -> str:
    """Why something failed, without the number and the path that an ``OSError`` adds: ``Permission denied``."""
    return error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).splitlines())


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room on the disk, by the user's quota, or for so large a file."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


class FewlabelError(Exception):
    """Base of all errors that are the user's to mend; carries every fault found at once.

    Args:
        message: One sentence, or the faults themselves.
        faults: All broken rules, in the order they were found.
    """

    exit_code = 1

    def __init__(self, message: str, faults: Iterable[Fault] = ()) -> None:
        self.message = message
        self.faults = tuple(faults)
        lines = [printable(message), *(f"  - {fault}" for fault in self.faults)]
        super().__init__("\n".join(lines))


class SettingsError(FewlabelError):
    """A setting, command line or recipe is wrong."""

    exit_code = 2


class DataError(FewlabelError):
    """Scans, labels or metadata break a rule."""

    exit_code = 3


class ArtifactError(DataError):
    """A folder made by a stage is missing, of the wrong kind, newer than this version, or changed."""


class DivergedError(FewlabelError):
    """Training met a non-finite number, or its embeddings collapsed and stayed so."""

    exit_code = 4


class MemoryLimitError(FewlabelError):
    """The device or the machine ran out of memory."""

    exit_code = 5


class DiskFullError(FewlabelError):
    """There is no room on the disk, by the user's quota, or for so large a file."""

    exit_code = 6


class LostProcessError(FewlabelError):
    """Another process of the same run ended, or cannot be reached any more."""

    exit_code = 7


class RunStoppedError(FewlabelError):
    """The user stopped the run; its state was saved first."""

    exit_code = 130
