"""A run of tiny scans as ``view`` shows it, without any training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fewlabel.core.artifact.files import write_json
from kit.segmenters import make_segmenter, prepared_discs, raw_folder


def discs_run(folder: Path, empty: Sequence[str] = ()) -> Path:
    """A run on tilted scans ``a`` and ``b`` (learnt from), ``c`` (no label) and ``t`` (test), by a random network.

    Masks of those in ``empty`` are background alone.
    """
    raw_folder(folder / "raw", ("a", "b", "c", "t"), unlabelled=("c",), empty=empty)
    run = folder / "run"
    prepared_discs(folder, train=("a", "b"), test=("t",), made=True, out=run / "prepared")
    plan = json.loads((run / "prepared" / "plan.json").read_text())
    make_segmenter(run / "segmenter", plan, [run / "prepared"], labelled_subjects=["a", "b"])
    write_json(run / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": None})
    return run


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for what another thread or process does.

    Raises:
        AssertionError: If it does not happen.
    """
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, f"never: {what}"
        time.sleep(0.02)
