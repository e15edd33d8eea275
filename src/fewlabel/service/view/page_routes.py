"""What the page that shows scans asks for, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fewlabel.core.errors import DataError, Fault, FewlabelError
from fewlabel.data.added_mask_reading import read_annotations
from fewlabel.data.annotation_saving import saved_by
from fewlabel.data.io.geometry import Volume
from fewlabel.data.io.label_tables import labels_of
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.service.learn_process import LearnProcess
from fewlabel.service.view.predictions_on_demand import PredictionQueue, prediction_file
from fewlabel.service.view.saved_annotations import drawing_of, only_drawn_slices, save_annotation
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.service.view.volumes_for_browser import (
    class_indices,
    dice_of_classes,
    errors_between,
    nifti_bytes,
    scan_for_browser,
    sent_indices,
    shown_window,
)

#: What the page opens of the content security policy. NiiVue reads its fonts and pictures from addresses that hold them
#: (``data:``). Scripts come from this server alone: no inline script, no ``eval``, no WebAssembly, no worker.
POLICY = {
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self' data:",
}
#: Files of the page and their types.
_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "licences.txt": ("licences.txt", "text/plain; charset=utf-8"),
}
_NIFTI = "application/octet-stream"
_REFUSED, _GONE, _BUSY = 422, 404, 409
#: What a drawing may begin with.
_STARTS = ("prediction", "annotation", "nothing")


class Viewing:
    """The scans as they are now, and the work that goes on.

    Args:
        scans: What is shown.
        load: Reads it again, after a round of ``learn``.
        learn: Begins rounds; None where there is no run.
        predictions: Makes masks.
    """

    def __init__(
        self,
        scans: ViewedScans,
        load: Callable[[], ViewedScans],
        learn: LearnProcess | None,
        predictions: PredictionQueue,
    ) -> None:
        self.scans, self._load = scans, load
        self.learn, self.predictions = learn, predictions
        self.volume = lru_cache(maxsize=2)(read_volume)

    def reload(self) -> None:
        """Take up what a round of ``learn`` has changed."""
        self.scans = self._load()

    def scan(self, request: Request) -> ViewedScan:
        """The scan that a request names by its place in the list."""
        place = int(request.path_params["place"])
        if place >= len(self.scans.scans):
            raise HTTPException(_GONE, "There is no such scan.")
        return self.scans.scans[place]

    def prediction(self, scan: ViewedScan) -> NDArray[np.uint8] | None:
        """(z, y, x) class indices; None if it is not made yet."""
        file = prediction_file(self.scans, scan)
        grid = self.volume(scan.images).geometry
        return None if file is None else class_indices(read_mask(file, grid=grid), self.scans.plan)

    def annotation(self, scan: ViewedScan) -> NDArray[np.uint8] | None:
        """(z, y, x) class indices of the mask that was saved last, else of that of the data; None without."""
        file = self.scans.added_masks().get(scan.case.id) or scan.case.label
        if file is None:
            return None
        if "axes" not in scan.case.record:
            grid = self.volume(scan.images).geometry
            return class_indices(read_mask(Path(file), grid=grid), self.scans.plan)
        cases = {scan.case.id: scan.case}
        masks, _ = read_annotations({scan.case.id: Path(file)}, cases, self.scans.plan, None, "background")
        return class_indices(masks[0].values, self.scans.plan)


def view_app(viewing: Viewing, title: str) -> Starlette:
    """The application, still without the checks of :func:`fewlabel.service.protection.protected`.

    Args:
        viewing: What is shown.
        title: Of the page.
    """

    def state(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse(_state(viewing, title))

    def image(request: Request) -> Response:
        volume = viewing.volume(viewing.scan(request).images)
        channel = int(request.query_params.get("channel", "0"))
        if not 0 <= channel < len(volume.array):
            raise HTTPException(_GONE, "There is no such channel.")
        return Response(nifti_bytes(scan_for_browser(volume.array[channel]), volume.geometry), media_type=_NIFTI)

    def about(request: Request) -> Response:
        return JSONResponse(_about(viewing, viewing.scan(request)))

    def mask(request: Request) -> Response:
        scan, kind = viewing.scan(request), request.path_params["kind"]
        array = _mask(viewing, scan, kind)
        if array is None:
            raise HTTPException(_GONE, f"There is no {kind} of this scan.")
        sent = sent_indices(array, viewing.scans.plan) if kind != "errors" else array
        return Response(nifti_bytes(sent, viewing.volume(scan.images).geometry), media_type=_NIFTI)

    def predict(request: Request) -> Response:
        if viewing.scans.segmenter is None:
            raise HTTPException(_GONE, "There is no network to predict with.")
        return JSONResponse(vars(viewing.predictions.ask(viewing.scans, viewing.scan(request))), 202)

    def predicting(request: Request) -> Response:
        making = viewing.predictions.state(viewing.scans, viewing.scan(request))
        return JSONResponse(vars(making) if making is not None else {"state": "none", "problem": ""})

    def save(request: Request, body: bytes) -> Response:
        scan, query = viewing.scan(request), request.query_params
        drawing = drawing_of(body, viewing.volume(scan.images).geometry, viewing.scans.plan)
        if query.get("slices", "all") == "drawn":
            begun = query.get("began", "nothing")
            if begun not in _STARTS:
                raise HTTPException(_REFUSED, f"began: must be one of {', '.join(_STARTS)}.")
            before = None if begun == "nothing" else _mask(viewing, scan, begun)
            axis = _slice_axis(scan, viewing.volume(scan.images))
            drawing = only_drawn_slices(drawing, np.zeros_like(drawing) if before is None else before, axis)
        return JSONResponse(save_annotation(viewing.scans, scan, drawing).record(), 201)

    async def saving(request: Request) -> Response:
        return await run_in_threadpool(save, request, await request.body())

    def learn(request: Request) -> Response:  # noqa: ARG001
        if viewing.learn is None:
            raise HTTPException(_GONE, "There is no run that could learn.")
        if not viewing.learn.start():
            raise HTTPException(_BUSY, "A round is at work already.")
        return JSONResponse(viewing.learn.state(), 202)

    def learning(request: Request) -> Response:  # noqa: ARG001
        if viewing.learn is None:
            raise HTTPException(_GONE, "There is no run that could learn.")
        return JSONResponse(viewing.learn.state())

    def reload(request: Request) -> Response:  # noqa: ARG001
        viewing.reload()
        return JSONResponse(_state(viewing, title))

    routes = [
        Route("/api/state", state),
        Route("/api/reload", reload, methods=["POST"]),
        Route("/api/scans/{place:int}", about),
        Route("/api/scans/{place:int}/image", image),
        Route("/api/scans/{place:int}/prediction", predict, methods=["POST"]),
        Route("/api/scans/{place:int}/prediction/state", predicting),
        Route("/api/scans/{place:int}/annotation", saving, methods=["POST"]),
        Route("/api/scans/{place:int}/{kind}", mask),
        Route("/api/learn", learn, methods=["POST"]),
        Route("/api/learn", learning),
        *(Route(f"/{path}", _file(*file)) for path, file in _PAGE.items()),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _told, FewlabelError: _refused})


def _state(viewing: Viewing, title: str) -> dict[str, Any]:
    scans = viewing.scans
    added, saved = scans.added_masks(), saved_by(scans.annotations)
    plan = scans.plan
    return {
        "title": title,
        "classes": [
            {"name": label.name, "value": label.value, "colour": list(label.colour)}
            for label in labels_of(plan.label_names, plan.label_values)
        ],
        "channels": list(plan.channels),
        "predicts": scans.segmenter is not None,
        "saves": scans.annotations is not None and len(plan.label_values) > 1,
        "learns": viewing.learn is not None and scans.segmenter is not None,
        "notes": list(scans.notes),
        "scans": [
            {
                "id": scan.case.id,
                "part": scan.part,
                "learnt": scan.learnt,
                "labelled": scan.case.label is not None,
                "added": scan.case.id in added,
                "saved": saved.get(scan.case.id) if scan.case.id in added else None,
                "score": scan.score,
                "disagreement": scan.disagreement,
            }
            for scan in scans.scans
        ],
    }


def _about(viewing: Viewing, scan: ViewedScan) -> dict[str, Any]:
    """What the page needs before it draws a scan."""
    volume = viewing.volume(scan.images)
    prediction, annotation = viewing.prediction(scan), viewing.annotation(scan)
    both = prediction is not None and annotation is not None
    names = viewing.scans.plan.label_names
    return {
        "shape": list(volume.geometry.shape[::-1]),
        "spacing": list(volume.geometry.spacing[::-1]),
        "window": shown_window(volume.array[0]),
        "channels": len(volume.array),
        "slice_axis": 2 - _slice_axis(scan, volume),
        "prediction": prediction is not None,
        "annotation": annotation is not None,
        "dice": dice_of_classes(prediction, annotation, len(names)) if both else None,  # type: ignore[arg-type]
    }


def _mask(viewing: Viewing, scan: ViewedScan, kind: str) -> NDArray[np.uint8] | None:
    if kind == "prediction":
        return viewing.prediction(scan)
    if kind == "annotation":
        return viewing.annotation(scan)
    if kind != "errors":
        raise HTTPException(_GONE, "There is no such kind of mask.")
    prediction, annotation = viewing.prediction(scan), viewing.annotation(scan)
    return None if prediction is None or annotation is None else errors_between(prediction, annotation)


def _slice_axis(scan: ViewedScan, volume: Volume) -> int:
    """Across the slices, of (z, y, x): as the scan was prepared, else the thickest."""
    if "axes" in scan.case.record:
        return int(scan.case.record["axes"][0])
    return int(np.argmax(volume.spacing)) if volume.geometry.shape[0] > 1 else 0


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    def send(request: Request) -> Response:  # noqa: ARG001
        content = (files("fewlabel.service.view") / "page" / "built" / name).read_bytes()
        return Response(content, media_type=kind)

    return send


def _told(request: Request, error: Exception) -> Response:  # noqa: ARG001
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code)


def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    if not isinstance(error, FewlabelError):
        raise error
    faults = error.faults or (Fault(error.message),)
    detail = " ".join([error.message, *map(str, faults)] if error.faults else map(str, faults))
    return JSONResponse({"detail": detail}, _REFUSED if isinstance(error, DataError) else _BUSY)
