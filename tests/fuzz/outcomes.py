"""What became of an input."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

#: Held: taken as sound, answered by errors of the product.
SOUND, ERROR = "sound", "error"
#: Failed: an exception of something else, a write outside, too much memory, no end, the end of the process, a sealed
#: artifact that was taken although it is another.
FOREIGN, OUTSIDE, MEMORY, HANG, DIED, SILENT = "foreign", "outside", "memory", "hang", "died", "silent"
FAILED = frozenset({FOREIGN, OUTSIDE, MEMORY, HANG, DIED, SILENT})


@dataclass(frozen=True)
class Outcome:
    """What became of an input, and of a failure what is known.

    Attributes:
        verdict: One of the words above.
        why: Of a failure, the error and where it rose.
        done: Of a failure, what the mutation was.
    """

    verdict: str
    why: str = ""
    done: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a failure."""
        return self.verdict in FAILED


def where_from(error: BaseException) -> str:
    """An error on one line, with the last line of the product that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/fewlabel/" in frame.filename]
    last = own[-1] if own else (frames[-1] if frames else None)
    place = f"{last.filename.rsplit('/src/', 1)[-1]}:{last.lineno} in {last.name}" if last else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} [{place}]"
