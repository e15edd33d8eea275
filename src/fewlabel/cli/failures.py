"""Exceptions as messages and exit codes."""

from __future__ import annotations

import errno
import sys
import textwrap
import traceback

from fewlabel.cli.console import rank, stderr
from fewlabel.core.errors import FewlabelError

INTERRUPTED = 130
OUT_OF_MEMORY = 5


def report_failure(error: BaseException) -> int:
    """Tell the user what went wrong; returns the exit code.

    2 usage or settings, 3 data, 4 diverged, 5 out of memory, 130 interrupted; 1 for what nobody foresaw.
    """
    if isinstance(error, FewlabelError):
        _tell(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        _tell("Interrupted.")
        return INTERRUPTED
    if out_of_memory(error):
        _tell(f"Out of memory ({_first_line(error)}).\n  - lower batch, prepare's size or network.width")
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _tell(f"The disk is full ({error}).\n  - free some space and repeat the command with --resume")
        return 1
    sys.stderr.write("".join(traceback.format_exception(error)))
    _tell("This should not happen: please report the lines above, with the command that led to them.")
    return 1


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


def _tell(text: str) -> None:
    console = stderr()
    who = f"[process {rank()}] " if rank() else ""
    for number, line in enumerate(text.splitlines()):
        full = f"{who}{line}" if number == 0 else line
        if console.soft_wrap:
            console.print(full, soft_wrap=True)
            continue
        indent = " " * (4 if line.startswith("  - ") else 0)
        folded = textwrap.wrap(full, console.width, subsequent_indent=indent, break_on_hyphens=False)
        console.print("\n".join(folded), soft_wrap=True, style="red" if number == 0 else None)
