"""Whether what is read is still what was opened: an artifact while a stage works on it, and a file of any size."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.artifact.files import ANEW, MANIFEST, file_hash
from fewlabel.core.artifact.manifest import Origin, changed_fault, manifest_fields, read_manifest
from fewlabel.core.errors import ArtifactError, Fault, reason


def check_origin(origin: Origin) -> None:
    """Make sure that what was read from a folder until now belongs to the artifact that was opened.

    Raises:
        ArtifactError: If another artifact lies there by now, or none.
    """
    path = origin.folder / MANIFEST
    now = str(manifest_fields(path).get("content_hash", "")) if path.is_file() else ""
    if now != origin.content_hash:
        problem = (
            f"{origin.folder}, of kind {origin.kind}, was replaced while it was being read: "
            f"{origin.content_hash[:12]} when it was opened, {now[:12] or 'nothing'} now"
        )
        raise ArtifactError("An artifact cannot be used:", [Fault(problem, remedy="Run the command again")])


def check_file(folder: Path, name: str) -> None:
    """Check one file of an artifact, of any size, against its hash; a folder without a manifest has none.

    Raises:
        ArtifactError: If the file is not as it was made, or the manifest is damaged.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        return
    made = read_manifest(folder / MANIFEST).files.get(name)
    try:
        changed = made is not None and file_hash(folder / name) != made
    except OSError as error:
        fault = Fault(f"{folder / name} cannot be read ({reason(error)})", remedy=ANEW)
        raise ArtifactError("An artifact is damaged:", [fault]) from error
    if changed:
        raise ArtifactError("An artifact is damaged:", [changed_fault(folder, name)])
