"""Exceptions as messages and exit codes."""

from __future__ import annotations

import errno
import sys
import textwrap
import traceback
from pathlib import Path

from fewlabel.cli.terminal_output import rank, stderr
from fewlabel.core.disk_room import full_disk_fault
from fewlabel.core.errors import DiskFullError, Fault, FewlabelError, SettingsError, is_disk_full
from fewlabel.core.printable import printable

INTERRUPTED = 130
OUT_OF_MEMORY = 5


def report_failure(error: BaseException) -> int:
    """Show the user what went wrong; returns the exit code.

    2 usage, settings or a path that may not be read or written, 3 data, 4 diverged, 5 out of memory, 6 a full disk,
    7 a lost process, 130 interrupted; 1 for what nobody foresaw.
    """
    if isinstance(error, FewlabelError):
        _show(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        _show("Interrupted.")
        return INTERRUPTED
    if out_of_memory(error):
        _show(f"Out of memory ({_first_line(error)}).\n  - Lower batch, the size of prepare or network.width.")
        return OUT_OF_MEMORY
    if isinstance(error, OSError):
        if is_disk_full(error):
            place = None if error.filename is None else Path(str(error.filename))
            return report_failure(DiskFullError("The disk is full:", [full_disk_fault(place)]))
        if closed := _closed_path(error):
            return report_failure(closed)
    sys.stderr.write(printable("".join(traceback.format_exception(error)), lines=True))
    _show("This should not happen: please report the lines above, with the command that led to them.")
    return 1


def _closed_path(error: OSError) -> SettingsError | None:
    """The error of a path that may not be read or written; None for any other."""
    # Both paths of a rename, where there are two.
    path = " and ".join(printable(str(name)) for name in (error.filename, error.filename2) if name is not None)
    if error.errno == errno.EROFS:
        problem, remedy = "is on a read-only disk", "Give a path elsewhere"
    elif isinstance(error, PermissionError) and path:
        problem, remedy = "cannot be read or written: permission denied", "Change its permissions, or give another path"
    elif isinstance(error, IsADirectoryError | NotADirectoryError) and path:
        what = (
            "a folder where a file is to be"
            if isinstance(error, IsADirectoryError)
            else "a file where a folder is to be"
        )
        problem, remedy = f"cannot be read or written: there is {what}", "Take it away, or give another path"
    else:
        return None
    return SettingsError("A file or folder cannot be used:", [Fault(f"{path} {problem}".strip(), remedy=remedy)])


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # The CPU allocator has no exception class of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _show(text: str) -> None:
    console = stderr()
    who = f"[process {rank()}] " if rank() else ""
    for number, line in enumerate(text.splitlines()):
        full = f"{who}{line}" if number == 0 else line
        if console.soft_wrap:
            console.print(full, soft_wrap=True)
            continue
        indent = " " * (4 if line.startswith("  - ") else 0)
        # A path that is wider than the terminal stays whole, to be copied.
        folded = textwrap.wrap(
            full, console.width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        console.print("\n".join(folded), soft_wrap=True, style="red" if number == 0 else None)
