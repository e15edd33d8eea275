"""``fewlabel serve``: a run for the viewers that speak MONAI Label's protocol, on this machine alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

import fewlabel
from fewlabel.core.errors import DataError, Fault, FewlabelError, SettingsError, is_disk_full, reason
from fewlabel.core.output_paths import unwritable
from fewlabel.core.progress import say
from fewlabel.service.learning_job import LearningJob
from fewlabel.service.loopback_server import HOST, loopback_socket, serve_until_stopped
from fewlabel.service.monai_label.api_page import STYLE_POLICY, api_page
from fewlabel.service.monai_label.callers import for_callers
from fewlabel.service.monai_label.data_routes import DataRoutes
from fewlabel.service.monai_label.inference import Inference
from fewlabel.service.monai_label.next_scan import NextScan
from fewlabel.service.monai_label.run_scans import RunScans
from fewlabel.service.monai_label.served_run import ServedRun
from fewlabel.service.monai_label.settings import ServeSettings
from fewlabel.service.monai_label.uploads import Uploads
from fewlabel.service.monai_label.work_routes import WorkRoutes
from fewlabel.service.protection import protected
from fewlabel.service.token_check import new_token

#: Folder of a run for scans that viewers sent.
UPLOADS = "uploads"
_ABOUT = "A run of fewlabel over the REST protocol of MONAI Label, for 3D Slicer, OHIF and its Python client."


def run(settings: ServeSettings) -> None:
    """Serve until Ctrl-C.

    Raises:
        SettingsError: If the port is taken, or the run folder cannot be written to.
        ArtifactError: If it is no run with a network.
    """
    if obstacle := unwritable(settings.run):
        raise SettingsError("Nothing is served:", [Fault(f"{settings.run} cannot be used: {obstacle}", "run")])
    with tempfile.TemporaryDirectory(prefix="fewlabel-serve-") as temporary:
        token = new_token()
        served = served_run(settings, token, Path(temporary))
        bound = loopback_socket(settings.port)
        address = f"http://{HOST}:{settings.port}/"

        def ready() -> None:
            say(f"Server of MONAI Label: {address}{token + '/' if settings.token else ''}")
            if settings.token:
                say(f"Or {address} with any user name and this password: {token}")
            say("Only programs of this machine reach it. Ctrl-C ends it.")

        try:
            serve_until_stopped(application(settings, served, token), bound, ready)
        finally:
            served.learning.stop()


def served_run(settings: ServeSettings, token: str, temporary: Path) -> ServedRun:
    """The run, and who does the work for its routes."""
    scans = RunScans(settings.run)
    return ServedRun(
        scans=scans,
        uploads=Uploads(settings.run / UPLOADS, temporary),
        inference=Inference(scans, settings.device),
        next_scan=NextScan(scans, settings.device),
        learning=LearningJob(settings.run),
        budget=settings.budget,
        token=token if settings.token else "",
        temporary=temporary,
        empty_masks=settings.empty_masks,
    )


def application(settings: ServeSettings, served: ServedRun, token: str) -> ASGIApp:
    """The routes behind all checks."""
    router = APIRouter()
    WorkRoutes(served).add_to(router)
    DataRoutes(served).add_to(router)
    app = FastAPI(
        title="fewlabel serve",
        description=_ABOUT,
        version=fewlabel.__version__,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirection would lose the token in the path.
        redirect_slashes=False,
    )
    app.include_router(router)
    app.add_api_route("/", lambda: HTMLResponse(api_page(app.openapi())), include_in_schema=False)
    app.add_exception_handler(FewlabelError, _refused)
    app.add_exception_handler(OSError, _failed)
    shut = protected(app, token, largest_body=settings.largest * 2**20, policy={"style-src": STYLE_POLICY})
    return for_callers(shut, token, needed=settings.token, origins=settings.origins)


def _refused(_: Request, error: Exception) -> JSONResponse:
    """What a stage refuses, in its own words: 400 for a wrong request, 422 for data, 500 for the run itself."""
    status = 400 if isinstance(error, SettingsError) else 422 if isinstance(error, DataError) else 500
    return JSONResponse({"detail": str(error)}, status)


def _failed(_: Request, error: Exception) -> JSONResponse:
    """What the system refuses, such as a full disk: 507, and 500 for the rest."""
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return JSONResponse({"detail": f"{where}{reason(error)}."}, 507 if is_disk_full(error) else 500)
