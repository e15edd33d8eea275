"""A run as it is served: who does the work for all routes, and temporary folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fewlabel.service.learning_job import LearningJob
from fewlabel.service.monai_label.inference import Inference
from fewlabel.service.monai_label.next_scan import NextScan
from fewlabel.service.monai_label.run_scans import RunScans
from fewlabel.service.monai_label.uploads import Uploads


@dataclass(frozen=True)
class ServedRun:
    """What the routes share.

    Attributes:
        scans: Of the run.
        uploads: Scans that were sent.
        inference: Predicts.
        next_scan: Suggests.
        learning: Learns.
        budget: Of a round, unless a request has another.
        token: What a login is to give; empty where none is needed.
        temporary: Folder that ends with the server.
        empty_masks: Whether masks may be all background where no other is.
    """

    scans: RunScans
    uploads: Uploads
    inference: Inference
    next_scan: NextScan
    learning: LearningJob
    budget: str
    token: str
    temporary: Path
    empty_masks: bool = False

    @contextmanager
    def temporary_folder(self, *, keep: bool = False) -> Iterator[Path]:
        """A new folder for files of one request.

        Args:
            keep: Whether it stays behind, for an answer that removes it when it is sent; never after a failure.
        """
        folder = Path(tempfile.mkdtemp(dir=self.temporary))
        try:
            yield folder
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                shutil.rmtree(folder)
