"""Answers as clients of MONAI Label expect them: facts of the run, tasks, and masks with their parameters."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import fewlabel
from fewlabel.data.io.catalog_paths import is_file_path, mask_suffix
from fewlabel.data.store import PreparedCase
from fewlabel.service.learning_job import Round
from fewlabel.service.monai_label.next_scan import STRATEGIES
from fewlabel.service.monai_label.run_scans import RunScans

#: Name of the only model and its trainer.
MODEL = "segmentation"
_DATE = "%Y-%m-%d %H:%M:%S"


def info(scans: RunScans, budget: str) -> dict[str, Any]:
    """What ``/info/`` says."""
    state = scans.state()
    expected = (state.facts.get("expected") or {}).get("mean", {}).get("dice", {}).get("mean")
    trainer = {"budget": budget, "take": ["better", "always"], "scans": 20}
    return {
        "name": f"fewlabel: {scans.run.resolve().name}",
        "description": "A run of fewlabel: its segmentation network, its scans, and learning from corrected masks",
        "version": fewlabel.__version__,
        "labels": list(state.numbers),
        "models": {
            MODEL: {
                "type": "segmentation",
                "labels": state.numbers,
                "dimension": 3,
                "description": "The network in use: what predict on the run folder uses",
                "config": {"flip": False},
            }
        },
        "trainers": {MODEL: {"description": "Learn from the masks that were saved", "config": trainer}},
        "strategies": {name: {"description": words} for name, words in STRATEGIES.items()},
        "scoring": {},
        "train_stats": {MODEL: {} if expected is None else {"best_metric": round(float(expected), 4)}},
        "datastore": status(scans),
    }


def status(scans: RunScans) -> dict[str, Any]:
    """How many scans there are, and masks of each kind."""
    masks = scans.masks()
    tags = [tag for kinds in masks.values() for tag in kinds]
    return {
        "total": len(masks),
        "completed": sum(bool(kinds) for kinds in masks.values()),
        "label_tags": {tag: tags.count(tag) for tag in sorted(set(tags))},
    }


def listing(scans: RunScans) -> dict[str, Any]:
    """All scans with their masks."""
    masks = scans.masks()
    objects = {
        case.id: {
            "image": {"ext": _extension(case), "info": image_info(case)},
            "labels": {tag: {"ext": mask_suffix(Path(case.images[0])), "info": {}} for tag in masks[case.id]},
        }
        for case in scans.state().store.cases
    }
    return {"name": scans.run.name, "description": "", "images_dir": "", "labels_dir": "", "objects": objects}


def image_info(case: PreparedCase) -> dict[str, Any]:
    """Where a scan lies: a viewer on this machine opens it there; and what it is called."""
    path = Path(case.images[0])
    place = {"path": str(path)} if is_file_path(path) else {}
    return {"name": f"{case.id}{_extension(case)}", **place}


def task(made: Round) -> dict[str, Any]:
    """A round as a task of the protocol."""
    ended = {} if made.ended is None else {"end_ts": made.ended.strftime(_DATE)}
    last = made.lines[-1] if made.lines else ""
    return {
        "id": made.id,
        "status": made.status,
        "request": {"model": MODEL, **made.settings},
        "start_ts": made.begun.strftime(_DATE),
        **ended,
        "details": made.lines[-20:],
        "result": last,
    }


def mask_and_params(mask: Path, params: dict[str, Any]) -> tuple[bytes, str]:
    """A body of several parts, which the clients read: ``params`` and ``image``; and its content type."""
    boundary = secrets.token_hex(16)
    parts = (
        ('name="params"', "application/json", json.dumps(params).encode()),
        (f'name="image"; filename="{mask.name}"', "application/octet-stream", mask.read_bytes()),
    )
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\nContent-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, kind, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _extension(case: PreparedCase) -> str:
    path = Path(case.images[0])
    return (
        "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix if is_file_path(path) else ".nii.gz"
    )
