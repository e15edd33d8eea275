"""What all routes need of HTTP: 404 for what is not there, JSON in a form, a file as an answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

Wanted = TypeVar("Wanted")


def or_not_found(look: Callable[[], Wanted]) -> Wanted:
    """What was looked for.

    Raises:
        HTTPException: 404, if there is no such thing.
    """
    try:
        return look()
    except KeyError as error:
        raise HTTPException(404, str(error.args[0])) from error


def json_object(text: str, field: str = "params") -> dict[str, Any]:
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


def file_response(path: Path, folder: Path) -> FileResponse:
    """A file as an answer; the temporary folder that it lies in is removed when it is sent."""
    clean = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name, background=clean)
