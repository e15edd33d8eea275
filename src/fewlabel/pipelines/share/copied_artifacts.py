"""Artifacts of a run as a copy has them: every file anew, and manifests whose hashes and parents are the copy's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST, hash_now, write_bytes
from fewlabel.core.artifact.manifest_fields import Parent, content_hash_of
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.output_paths import ROUNDS, round_folders
from fewlabel.data.array_saving import save_array
from fewlabel.data.pose_record import POSES
from fewlabel.data.relabel import MASKS, RECORD
from fewlabel.pipelines.share.rewritten_files import LEFT_OUT, Rewriter

#: Kinds of artifact that a copy holds; a report is made anew, and masks have the headers of their scans.
SHARED = frozenset({"prepared", "encoder", "segmenter", "scores", "round"})


def artifacts_of(run: Path) -> list[Artifact]:
    """The artifacts of a run that a copy holds, parents first; of rounds that are not finished none.

    Raises:
        ArtifactError: With all files of them that are missing or not as they were made.
    """
    places = [run, *(folder for folder in round_folders(run) if folder not in unfinished_rounds(run))]
    folders = [folder for place in places for folder in _folders(place) if (folder / MANIFEST).is_file()]
    opened: list[Artifact] = []
    faults: list[Fault] = []
    for folder in folders:
        try:
            artifact = Artifact.open(folder)
            if artifact.kind in SHARED:
                for name in artifact.manifest.files:
                    artifact.verified(name)
                opened.append(artifact)
        except ArtifactError as error:
            faults.extend(error.faults)
    if faults:
        raise ArtifactError("The run cannot be shared:", faults)
    return list(_parents_first(opened))


def unfinished_rounds(run: Path) -> list[Path]:
    """Folders of rounds that were stopped, or are at work."""
    return [folder for folder in round_folders(run) if Artifact.find(folder, "round") is None]


def copy_artifact(artifact: Artifact, run: Path, copy: Path, rewriter: Rewriter) -> None:
    """Write the copy of an artifact; the rewriter learns its hash.

    Args:
        artifact: The original.
        run: The run folder it lies in.
        copy: The run folder that becomes the copy.
        rewriter: Has the hashes of its parents already.
    """
    out = copy / artifact.folder.resolve().relative_to(run.resolve())
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name in artifact.manifest.files:
        if name == RECORD or name.startswith(f"{MASKS}/"):
            # Masks that were drawn have the headers of their scans; what they say is in the labels.
            continue
        new = rewriter.path(name)
        _write(artifact, name, out / new, rewriter)
        hashes[new] = hash_now(out / new)
    if (artifact.folder / POSES).is_file():
        write_bytes(out / POSES, rewriter.file(POSES, (artifact.folder / POSES).read_bytes(), artifact.folder / POSES))
    old = artifact.manifest
    summed = content_hash_of(old.kind, hashes)
    manifest = old.model_copy(
        update={
            "files": dict(sorted(hashes.items())),
            "content_hash": summed,
            "parents": [_parent(parent, rewriter) for parent in old.parents if parent.kind != "predictions"],
            "settings": rewriter.settings(old.settings),
        }
    )
    write_sealed(out / MANIFEST, manifest.model_dump(mode="json"))
    rewriter.hashes[old.content_hash] = summed


def _write(artifact: Artifact, name: str, target: Path, rewriter: Rewriter) -> None:
    source = artifact.folder / name
    if name.endswith(".npy"):
        target.parent.mkdir(parents=True, exist_ok=True)
        save_array(target, np.load(source, mmap_mode="r", allow_pickle=False))
        return
    content = source.read_bytes() if name.endswith(".safetensors") else artifact.content(name)
    write_bytes(target, rewriter.file(name, content, source))


def _parent(parent: Parent, rewriter: Rewriter) -> Parent:
    """A parent in the copy, or one of which only the hash is known."""
    known = parent.content_hash in rewriter.hashes
    path = parent.path if known else f"{LEFT_OUT}/{parent.kind}"
    return Parent(
        kind=parent.kind, path=path, content_hash=rewriter.hashes.get(parent.content_hash, parent.content_hash)
    )


def _folders(place: Path) -> list[Path]:
    inner = sorted(path for path in place.iterdir() if path.is_dir() and path.name != ROUNDS)
    return [*inner, place]


def _parents_first(artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """The artifacts in an order in which each follows those it was made from."""
    left = list(artifacts)
    while left:
        waiting = {artifact.content_hash for artifact in left}
        ready = [one for one in left if not _hashes(one) & (waiting - {one.content_hash})] or left
        yield from ready
        left = [one for one in left if one not in ready]


def _hashes(artifact: Artifact) -> set[str]:
    return {parent.content_hash for parent in artifact.manifest.parents}


def leftovers(run: Path, artifacts: Iterable[Artifact]) -> list[str]:
    """Names of what lies in a run and is in no copy, but for what is known to be left out."""
    taken = {artifact.folder.resolve() for artifact in artifacts}
    return sorted(path.name for path in run.iterdir() if path.resolve() not in taken and path.name not in _SAID)


#: What is made anew, or left out of every copy.
_SAID = frozenset({"run.json", "report", ROUNDS})
