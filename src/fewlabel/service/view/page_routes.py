"""What the page that shows scans asks for, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fewlabel.core.errors import DataError, Fault, FewlabelError, is_disk_full, reason
from fewlabel.data.empty_masks import EmptyMaskError
from fewlabel.service.view.page_state import Viewing, mask_of, page_state, round_state, scan_state, slice_axis
from fewlabel.service.view.received_drawings import drawing_of, save_drawing, slices_alone
from fewlabel.service.view.viewed_scans import ViewedScan
from fewlabel.service.view.volumes_for_browser import nifti_bytes, scan_for_browser, sent_indices

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
#: Of a number; ``int`` itself refuses thousands of them.
_DIGITS = 9
_REFUSED, _GONE, _BUSY, _BROKEN, _NO_ROOM = 422, 404, 409, 500, 507


def view_app(viewing: Viewing, title: str) -> Starlette:
    """The application, still without the checks of :func:`fewlabel.service.protection.protected`.

    Args:
        viewing: What is shown.
        title: Of the page.
    """

    def state(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse(page_state(viewing, title))

    def image(request: Request) -> Response:
        volume = viewing.volume(_scan(viewing, request).images)
        channel = request.query_params.get("channel", "0")
        if channel not in map(str, range(len(volume.array))):
            raise HTTPException(_GONE, "There is no such channel.")
        return Response(nifti_bytes(scan_for_browser(volume.array[int(channel)]), volume.geometry), media_type=_NIFTI)

    def about(request: Request) -> Response:
        return JSONResponse(scan_state(viewing, _scan(viewing, request)))

    def mask(request: Request) -> Response:
        scan, kind = _scan(viewing, request), request.path_params["kind"]
        array = mask_of(viewing, scan, kind)
        if array is None:
            raise HTTPException(_GONE, f"There is no {kind} of this scan.")
        sent = sent_indices(array, viewing.scans.plan) if kind != "errors" else array
        return Response(nifti_bytes(sent, viewing.volume(scan.images).geometry), media_type=_NIFTI)

    def predict(request: Request) -> Response:
        if viewing.scans.segmenter is None:
            raise HTTPException(_GONE, "There is no network to predict with.")
        return JSONResponse(vars(viewing.predictions.ask(viewing.scans, _scan(viewing, request))), 202)

    def predicting(request: Request) -> Response:
        making = viewing.predictions.state(viewing.scans, _scan(viewing, request))
        return JSONResponse(vars(making) if making is not None else {"state": "none", "problem": ""})

    def save(request: Request, body: bytes) -> Response:
        scan, query = _scan(viewing, request), request.query_params
        drawing = drawing_of(body, viewing.volume(scan.images).geometry, viewing.scans.plan)
        if "slices" in query:
            drawing = slices_alone(drawing, _slices(query["slices"]), slice_axis(scan, viewing.volume(scan.images)))
        # Of a mask without any structure the page asks whether it is right, and sends it again.
        empty = bool(viewing.learning.get("empty_masks", False)) or query.get("empty") == "true"
        return JSONResponse(save_drawing(viewing.scans, scan, drawing, empty_masks=empty).record(), 201)

    async def saving(request: Request) -> Response:
        return await run_in_threadpool(save, request, await request.body())

    def learn(request: Request) -> Response:
        if viewing.learn is None:
            raise HTTPException(_GONE, "There is no run that could learn.")
        if request.method == "POST" and viewing.learn.begin(viewing.learning) is None:
            raise HTTPException(_BUSY, "A round is at work already.")
        return JSONResponse(round_state(viewing.learn))

    routes = [
        Route("/api/state", state),
        Route("/api/scans/{place}", about),
        Route("/api/scans/{place}/image", image),
        Route("/api/scans/{place}/prediction", predict, methods=["POST"]),
        Route("/api/scans/{place}/prediction/state", predicting),
        Route("/api/scans/{place}/annotation", saving, methods=["POST"]),
        Route("/api/scans/{place}/{kind}", mask),
        Route("/api/learn", learn, methods=["GET", "POST"]),
        *(Route(f"/{path}", _file(*file)) for path, file in _PAGE.items()),
    ]
    return Starlette(
        routes=routes, exception_handlers={HTTPException: _told, FewlabelError: _refused, OSError: _failed}
    )


def _scan(viewing: Viewing, request: Request) -> ViewedScan:
    """The scan that a request names by its place in the list."""
    place, scans = _number(request.path_params["place"]), viewing.scans.scans
    if place is None or place >= len(scans):
        raise HTTPException(_GONE, "There is no such scan.")
    return scans[place]


def _slices(words: str) -> list[int]:
    """The slices that a request names, by commas."""
    named = {word: _number(word) for word in words.split(",") if word}
    wrong = [word for word, number in named.items() if number is None]
    if wrong:
        raise HTTPException(_REFUSED, f"There is no slice {wrong[0][:_DIGITS]!r}.")
    return [number for number in named.values() if number is not None]


def _number(word: str) -> int | None:
    """A number of a request; None for what is none, or has more digits than the number of anything here."""
    return int(word) if word.isdecimal() and len(word) <= _DIGITS else None


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
    asks = {"asks": "empty"} if isinstance(error, EmptyMaskError) else {}
    return JSONResponse({"detail": detail, **asks}, _REFUSED if isinstance(error, DataError) else _BUSY)


def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """What the system refuses, such as a full disk: said on the page, which keeps the drawing."""
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return JSONResponse({"detail": f"{where}{reason(error)}."}, _NO_ROOM if is_disk_full(error) else _BROKEN)
