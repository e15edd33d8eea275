"""What the routes share: the parts that do the work, places for files on their way, and what a request says."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from fewlabel.service.learning_job import LearningJob
from fewlabel.service.monai_label.inference import Inference
from fewlabel.service.monai_label.next_scan import NextScan
from fewlabel.service.monai_label.run_scans import RunScans
from fewlabel.service.monai_label.uploads import Uploads

Found = TypeVar("Found")


@dataclass(frozen=True)
class Parts:
    """Of a server.

    Attributes:
        scans: Of the run.
        uploads: Scans that were sent.
        inference: Predicts.
        next_scan: Suggests.
        learning: Learns.
        budget: Of a round, unless a request has another.
        token: What a login is to give; empty where none is needed.
        temporary: Folder that ends with the server.
    """

    scans: RunScans
    uploads: Uploads
    inference: Inference
    next_scan: NextScan
    learning: LearningJob
    budget: str
    token: str
    temporary: Path

    @contextmanager
    def place(self, *, keep: bool = False) -> Iterator[Path]:
        """A new folder for files on their way.

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


def found(look: Callable[[], Found]) -> Found:
    """What was looked for.

    Raises:
        HTTPException: 404, if there is no such thing.
    """
    try:
        return look()
    except KeyError as error:
        raise HTTPException(404, str(error.args[0])) from error


def as_mapping(text: str, field: str = "params") -> dict[str, Any]:
    """A form field that holds a JSON object; empty where there is none.

    Raises:
        HTTPException: 400, if it holds anything else.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{field} is not JSON") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HTTPException(400, f"{field} must be an object, not {type(value).__name__}")
    return value


def sent_file(path: Path, place: Path) -> FileResponse:
    """A file as an answer; the place of files on their way is removed when it is sent."""
    clean = BackgroundTask(shutil.rmtree, place, ignore_errors=True)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name, background=clean)
