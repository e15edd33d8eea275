"""Routes that say what the run is, predict, suggest and learn; and the login."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from fewlabel.core.progress import say
from fewlabel.data.store import PreparedCase
from fewlabel.pipelines.learn import learn_settings
from fewlabel.service.learning_job import Round
from fewlabel.service.monai_label import answers
from fewlabel.service.monai_label.answers import MODEL
from fewlabel.service.monai_label.http_exchange import file_response, json_object, or_not_found
from fewlabel.service.monai_label.mask_intake import BARE
from fewlabel.service.monai_label.served_run import ServedRun
from fewlabel.service.monai_label.uploads import VOLUMES
from fewlabel.service.token_check import same_token

#: Settings of a round that a request may have.
OF_A_ROUND = ("budget", "steps", "rate", "scans", "take")
Model = Literal["segmentation"]


class WorkRoutes:
    """The routes.

    Args:
        served: The run.
    """

    def __init__(self, served: ServedRun) -> None:
        self.served = served

    def add_to(self, router: APIRouter) -> None:
        """Register them."""
        add = router.add_api_route
        add("/info/", self.info, methods=["GET"], tags=["Run"])
        add("/logs/", self.logs, methods=["GET"], tags=["Run"], response_class=PlainTextResponse)
        add("/auth/", self.login_needed, methods=["GET"], tags=["Login"])
        add("/auth/token", self.log_in, methods=["POST"], tags=["Login"])
        add("/auth/token/valid", self.logged_in, methods=["GET"], tags=["Login"])
        add("/activelearning/{strategy}", self.next_sample, methods=["POST"], tags=["Next scan"])
        add("/infer/{model}", self.infer, methods=["POST"], tags=["Predict"], response_class=Response)
        learn: dict[str, Any] = {"tags": ["Learn"]}
        add("/train/", self.training, methods=["GET"], **learn)
        add("/train/", self.train_all, methods=["POST"], **learn)
        add("/train/{model}", self.train, methods=["POST"], **learn)
        add("/train/", self.stop_training, methods=["DELETE"], **learn)

    def info(self) -> dict[str, Any]:
        """Classes, model, strategies, trainer and counts."""
        return answers.info(self.served.scans, self.served.budget)

    def logs(self, lines: Annotated[int, Query(ge=1, le=1000)] = 300) -> PlainTextResponse:
        """What the last round of learning printed."""
        rounds = self.served.learning.rounds
        return PlainTextResponse("\n".join(rounds[-1].lines[-lines:]) + "\n" if rounds else "Nothing was learnt yet.\n")

    def login_needed(self) -> dict[str, Any]:
        """Whether a token is needed."""
        return {"enabled": bool(self.served.token)}

    def log_in(self, password: Annotated[str, Form()], username: Annotated[str, Form()] = "") -> dict[str, str]:
        """The token for the token: any user name, and the token of this server as the password."""
        if not same_token(password, self.served.token):
            raise HTTPException(401, "The password is the token that the terminal shows")
        say(f"{username[:40]!r} has logged in.")
        return {"access_token": self.served.token, "token_type": "bearer"}

    def logged_in(self) -> dict[str, Any]:
        """Whether the token of this request is right: nobody comes here without."""
        return {}

    def next_sample(
        self,
        strategy: str,
        params: Annotated[dict[str, Any] | None, Body()] = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """The scan to annotate next, as suggest ranks them; empty where all are annotated."""
        with self.served.temporary_folder() as folder:
            scan = or_not_found(lambda: self.served.next_scan.choose(strategy, folder))
        if scan is None:
            return {}
        return {"id": scan, **answers.image_info(self.served.scans.case(scan))}

    def infer(
        self,
        model: Model,  # noqa: ARG002
        image: Annotated[str, Query(description="Id of a scan, or SeriesInstanceUID of its DICOM series")] = "",
        session_id: str = "",
        output: Literal["", "all", "image", "json"] = "",
        params: Annotated[str, Form(description='{"flip": false, "result_extension": ".nrrd"}')] = "{}",
        file: Annotated[UploadFile | None, File(description="A scan, in place of an id")] = None,
        label: Annotated[UploadFile | None, File(description="Taken and not used: the network draws by itself")] = None,
    ) -> Response:
        """Segment a scan, on its own grid: parameters and mask in one answer, or one of them alone."""
        asked = json_object(params)
        if label is not None and label.filename:
            shutil.rmtree(self.served.uploads.receive(label.file, label.filename, (*VOLUMES, BARE)).parent)
        with self.served.temporary_folder(keep=output == "image") as folder:
            received = None if file is None else self.served.uploads.receive(file.file, file.filename)
            try:
                scan = received or self._scan(image, session_id)
                mask, said = self.served.inference.infer(scan, asked, folder)
            finally:
                if received is not None:
                    shutil.rmtree(received.parent)
            # By its id: the SeriesInstanceUID that it may be asked for by tells who was scanned.
            say(f"{scan.id if isinstance(scan, PreparedCase) else 'A scan that was sent'}: segmented.")
            if output == "image":
                return file_response(mask, folder)
            if output == "json":
                return JSONResponse(said)
            body, kind = answers.mask_and_params(mask, said)
            return Response(body, media_type=kind)

    def _scan(self, image: str, session_id: str) -> PreparedCase | Path:
        if session_id:
            scan = self.served.uploads.session(session_id)
            if scan is None:
                raise HTTPException(404, "There is no such session")
            return scan
        if not image:
            raise HTTPException(400, "Name a scan by image or session_id, or send one as file")
        return self.served.uploads.find(image) or or_not_found(lambda: self.served.scans.case(image))

    def training(self, check_if_running: bool = False, all: bool = False) -> Any:
        """The last round, or all of this server; with check_if_running, 404 unless one is under way."""
        learning = self.served.learning
        made = learning.running if check_if_running else (learning.rounds[-1] if learning.rounds else None)
        if made is None:
            raise HTTPException(404, "Nothing is learning" if check_if_running else "Nothing was learnt yet")
        return [answers.task(each) for each in learning.rounds] if all and not check_if_running else answers.task(made)

    def train(self, model: Model, params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:  # noqa: ARG002
        """Learn from the masks that were saved; 429 while a round is under way."""
        return answers.task(self._begin(params or {}))

    def train_all(self, params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
        """The same for every model, of which there is one."""
        own = (params or {}).get(MODEL)
        return {MODEL: {"result": answers.task(self._begin(own if isinstance(own, dict) else {})), "detail": None}}

    def stop_training(self) -> dict[str, Any] | None:
        """Stop the round under way; nothing of it is kept."""
        made = self.served.learning.stop()
        return None if made is None else answers.task(made)

    def _begin(self, params: dict[str, Any]) -> Round:
        # Slicer sends empty text for what has no value.
        given = {key: params[key] for key in OF_A_ROUND if params.get(key) not in (None, "")}
        settings = {"budget": self.served.budget, **given}
        settings |= {"empty_masks": True} if self.served.empty_masks else {}
        learn_settings({"run": self.served.scans.run, **settings})
        made = self.served.learning.begin(settings)
        if made is None:
            raise HTTPException(429, "A round is under way: wait, or stop it")
        say("A round of learning has begun.")
        return made
