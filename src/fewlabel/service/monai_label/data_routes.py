"""Routes of the data store: scans and masks of the run, and scans that a viewer sends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse, Response

from fewlabel.core.artifact.files import file_hash
from fewlabel.core.progress import say
from fewlabel.data.io.catalog_paths import recorded
from fewlabel.service.monai_label import answers
from fewlabel.service.monai_label.http_exchange import file_response, json_object, or_not_found
from fewlabel.service.monai_label.mask_intake import BARE, save_mask, save_mask_of_upload
from fewlabel.service.monai_label.run_scans import FINAL, RunScans
from fewlabel.service.monai_label.served_run import ServedRun
from fewlabel.service.monai_label.uploads import VOLUMES, Uploads

Image = Annotated[str, Query(description="Id of a scan, or SeriesInstanceUID of its DICOM series")]
Tag = Annotated[str, Query(description="Which mask: final is what a person saved, original that of the data set")]


class DataRoutes:
    """The routes.

    Args:
        served: The run.
    """

    def __init__(self, served: ServedRun) -> None:
        self.served = served

    @property
    def scans(self) -> RunScans:
        """Of the run."""
        return self.served.scans

    @property
    def uploads(self) -> Uploads:
        """Scans that were sent."""
        return self.served.uploads

    def add_to(self, router: APIRouter) -> None:
        """Register them."""
        add = router.add_api_route
        store: dict[str, Any] = {"tags": ["Datastore"]}
        add("/datastore/", self.datastore, methods=["GET"], **store)
        add("/datastore/image", self.image, methods=["GET"], response_class=FileResponse, **store)
        add("/datastore/image", self.check_image, methods=["HEAD"], **store)
        add("/datastore/image/info", self.image_info, methods=["GET"], **store)
        add("/datastore/image", self.add_image, methods=["PUT"], **store)
        # As the client of monailabel 0.8.5 and Slicer call it.
        add("/datastore/", self.add_image, methods=["PUT"], include_in_schema=False)
        add("/datastore/label", self.label, methods=["GET"], response_class=FileResponse, **store)
        add("/datastore/label", self.save_label, methods=["PUT"], **store)
        session: dict[str, Any] = {"tags": ["Session"]}
        add("/session/", self.begin_session, methods=["PUT"], **session)
        add("/session/{session_id}", self.session, methods=["GET"], **session)
        add("/session/{session_id}", self.end_session, methods=["DELETE"], **session)

    def datastore(self, output: Literal["all", "stats", "train"] = "stats") -> Any:
        """Count of scans and masks; all scans with their masks; or files to train on."""
        if output == "all":
            return answers.listing(self.scans)
        if output == "stats":
            return answers.status(self.scans)
        masks = self.scans.masks()
        return [
            {"image": recorded(Path(case.images[0])), "label": recorded(list(masks[case.id].values())[-1])}
            for case in self.scans.state().store.cases
            if masks[case.id]
        ]

    def image(self, image: Image) -> FileResponse:
        """A scan; of a DICOM series or an archive a NIfTI made of it."""
        with self.served.temporary_folder(keep=True) as folder:
            return file_response(self._image_file(image, folder), folder)

    def check_image(self, image: Image, check_sum: str = "") -> Response:
        """Whether there is such a scan; with a check sum, SHA-256 of its file, whether it is that."""
        with self.served.temporary_folder() as folder:
            path, wanted = self._image_file(image, folder), check_sum.rpartition(":")[2].lower()
            if wanted and file_hash(path) != wanted:
                raise HTTPException(404, "The scan is another file")
        return Response()

    def image_info(self, image: Image) -> dict[str, Any]:
        """Name and place of a scan."""
        if (sent := self.uploads.find(image)) is not None:
            return {"name": sent.name, "path": str(sent)}
        return answers.image_info(or_not_found(lambda: self.scans.case(image)))

    def add_image(
        self,
        file: Annotated[UploadFile, File(description=f"The scan: {', '.join(VOLUMES)}")],
        image: Annotated[str, Query(description="What to call it; by default as its file")] = "",
        params: Annotated[str, Form()] = "{}",
    ) -> dict[str, Any]:
        """Take a scan that is not of the run, to segment it; it is kept in RUN/uploads, and not learnt from."""
        json_object(params)
        sent = self.uploads.receive(file.file, file.filename)
        try:
            stem = Path(file.filename or "scan").name.partition(".")[0]
            name = image or stem
            if name in {case.id for case in self.scans.state().store.cases}:
                raise HTTPException(409, f"{name} is a scan of the run: choose another name")
            added = self.uploads.add(name, sent)
        finally:
            shutil.rmtree(sent.parent, ignore_errors=True)
        say(f"{added}: a scan was sent.")
        return {"image": added}

    def label(self, label: Image, tag: Tag = FINAL) -> FileResponse:
        """A mask, in the numbers of the classes that /info/ gives."""
        case = or_not_found(lambda: self.scans.case(label))
        masks = self.scans.masks()[case.id]
        if tag not in masks:
            raise HTTPException(404, f"{case.id} has no mask {tag!r}; it has {', '.join(masks) or 'none'}")
        with self.served.temporary_folder(keep=True) as folder:
            return file_response(self.scans.mask_file(case, masks[tag], folder), folder)

    def save_label(
        self,
        image: Image,
        label: Annotated[UploadFile, File(description="The mask on the grid of its scan, or bare voxels (.bin)")],
        params: Annotated[str, Form(description='{"label_info": [{"name": "LV", "idx": 3}]}')] = "{}",
        tag: Tag = FINAL,
    ) -> dict[str, Any]:
        """Save a mask into RUN/annotations, which learn takes; a mask that was there is kept in .history."""
        if tag not in {"", FINAL}:
            raise HTTPException(400, f"Masks are saved as {FINAL}, not as {tag!r}")
        told = json_object(params).get("label_info")
        sent = self.uploads.receive(label.file, label.filename, (*VOLUMES, BARE))
        try:
            if (uploaded := self.uploads.find(image)) is not None:
                kept = save_mask_of_upload(self.scans, uploaded, sent, told)
                say(f"{image}: a mask was saved, {kept}; the scan is none of the run, so it is not learnt from.")
                return {"image": image, "label": image, "learnt_from": False}
            case = or_not_found(lambda: self.scans.case(image))
            kept = save_mask(self.scans, case, sent, told, empty_masks=self.served.empty_masks)
        finally:
            shutil.rmtree(sent.parent, ignore_errors=True)
        say(f"{case.id}: a mask was saved, {kept}.")
        return {"image": image, "label": case.id, "learnt_from": True}

    def begin_session(
        self, files: Annotated[list[UploadFile], File(description="One file, the scan")]
    ) -> dict[str, Any]:
        """Take a scan for a while: it is gone when the server ends."""
        if len(files) != 1:
            raise HTTPException(400, f"A session has one file, not {len(files)}")
        session = self.uploads.begin_session(self.uploads.receive(files[0].file, files[0].filename))
        return {"session_id": session, "session_info": {"name": "scan"}}

    def session(self, session_id: str) -> dict[str, Any]:
        """Whether there is such a session."""
        if self.uploads.session(session_id) is None:
            raise HTTPException(404, "There is no such session")
        return {"name": "scan"}

    def end_session(self, session_id: str) -> dict[str, Any]:
        """Forget its scan."""
        if not self.uploads.end_session(session_id):
            raise HTTPException(404, "There is no such session")
        return {"name": "scan"}

    def _image_file(self, image: str, folder: Path) -> Path:
        return self.uploads.find(image) or or_not_found(lambda: self.scans.image_file(self.scans.case(image), folder))
