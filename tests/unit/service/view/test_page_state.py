"""What the server keeps of the scans that the page asks for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.io.geometry import Volume
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.service.view import page_state
from fewlabel.service.view.page_state import Viewing
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.viewed_scans import viewed_scans
from kit.scans import write_scan


def test_requests_that_come_at_once_read_a_scan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.float32))
    both_read = threading.Barrier(2)
    read: list[Sequence[Path]] = []

    def reads(images: Sequence[Path]) -> Volume:
        read.append(images)
        # Two that read at once meet here; one alone waits in vain, and the other comes after it.
        with suppress(threading.BrokenBarrierError):
            both_read.wait(1)
        return read_volume(images)

    monkeypatch.setattr(page_state, "read_volume", reads)
    viewing = Viewing(viewed_scans(tmp_path), PredictionQueue())
    images = viewing.scans.scans[0].images
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: viewing.volume(images), range(2))
    assert first is second
    assert read == [images]
