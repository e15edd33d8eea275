"""``verify``: whether a run is what it claims to be, by its hashes and by making parts of it again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, Fault, FewlabelError
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.core.progress import silence, task
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.store import PreparedStore
from fewlabel.engine.runtime import Device, choose_device
from fewlabel.pipelines.verify.findings import Finding, not_checked, refused
from fewlabel.pipelines.verify.remade_scans import remade_scans
from fewlabel.pipelines.verify.repeated_scores import repeated_scores
from fewlabel.pipelines.verify.repeated_steps import repeated_finetuning, repeated_pretraining, repeated_validation
from fewlabel.pipelines.verify.score_sums import sums_of_scores
from fewlabel.pipelines.verify.sealed_parts import artifact_folders, sealed_parts

__all__ = ["Finding", "Verification", "VerifySettings", "run"]


class VerifySettings(Settings):
    """Settings of ``fewlabel verify``."""

    run: PathSetting = setting(..., "run folder, as train or demo leaves it; or a copy that share made")
    steps: int = setting(11, "first training steps to take again, at most; 0: none", unit="optimisation steps", ge=0)
    scores: bool = setting(True, "predict and score again")
    scans: int = setting(2, "scans to prepare again, where their files are there", unit="scans", ge=0)
    tolerance: float = setting(
        0.02, "relative difference of a loss or a measure that other hardware or threads may make", ge=0, lt=1
    )
    device: Device = setting("auto", "where to predict and train")


@dataclass(frozen=True)
class Verification:
    """What was found of a run.

    Attributes:
        findings: A line for each part, in the order of the run.
    """

    findings: tuple[Finding, ...]

    @property
    def differing(self) -> tuple[Finding, ...]:
        """What is not what it claims to be."""
        return tuple(finding for finding in self.findings if finding.verdict == "differs")

    @property
    def unchecked(self) -> tuple[Finding, ...]:
        """What could not be known."""
        return tuple(finding for finding in self.findings if finding.verdict == "not checked")

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.differing:
            parts = "1 part differs" if len(self.differing) == 1 else f"{len(self.differing)} parts differ"
            return f"This run is NOT what it claims to be: {parts}."
        count = len(self.unchecked)
        rest = f"; {'1 part' if count == 1 else f'{count} parts'} could not be checked" if count else ""
        return f"This run is what it claims to be, as far as was looked{rest}."


def run(settings: VerifySettings) -> Verification:
    """Look whether a run is what it claims to be. Nothing in it is changed.

    Every file is held against its hash, every artifact against those it was made from, scores are made again from the
    weights, and the first steps of each training from its seed, with as many threads and the precision that are
    recorded. Where labels or scans are gone, as in a copy that ``share`` made, what can be known without them is looked
    at.

    Raises:
        ArtifactError: If there is no artifact in the folder.
    """
    folder = settings.run
    if not artifact_folders(folder):
        why = "does not exist" if not folder.exists() else "holds no finished artifact"
        fault = Fault(f"{folder} {why}", remedy=f"Give a run folder, with its {RUN_FILE}")
        raise ArtifactError("There is nothing to verify:", [fault])
    sealed = sealed_parts(folder)
    findings = list(sealed.findings)
    with tempfile.TemporaryDirectory(prefix="fewlabel-verify-") as work, task("verify", len(sealed.sound)) as bar:
        for name in sealed.sound:
            findings += _repeated(settings, name, sealed.sound, Path(work))
            bar.advance(note=name)
    return Verification(tuple(findings))


def _repeated(settings: VerifySettings, name: str, sound: Mapping[str, Artifact], work: Path) -> list[Finding]:
    """What is made again of an artifact whose files are as they were."""
    artifact, home = sound[name], name.rpartition("/")[0]
    where = f"{home}/" if home else ""
    prepared = sound.get(f"{where}prepared")
    if artifact.kind not in ("prepared", "encoder", "segmenter", "scores"):
        return []
    if prepared is None:
        return [not_checked(f"{name}: repeated", "its prepared scans are not as they were made, or not here")]
    with silence():
        try:
            return list(_of_artifact(settings, name, prepared, sound, where, work / name.replace("/", "-")))
        except FewlabelError as error:
            return [refused(f"{name}: repeated", error)]


def _of_artifact(
    settings: VerifySettings,
    name: str,
    prepared: Artifact,
    sound: Mapping[str, Artifact],
    where: str,
    place: Path,
) -> Iterator[Finding]:
    artifact, store = sound[name], PreparedStore(prepared)
    device, tolerance = choose_device(settings.device), settings.tolerance
    if artifact.kind == "prepared":
        if artifact.manifest.parents:
            return
        yield from remade_scans(store, settings.scans, name)
    elif artifact.kind == "encoder" and settings.steps:
        yield repeated_pretraining(artifact, store, place, settings.steps, device, tolerance)
    elif artifact.kind == "segmenter":
        if settings.steps:
            yield from repeated_finetuning(artifact, store, place, settings.steps, device, tolerance, name)
        if settings.scores and (finding := repeated_validation(artifact, store, device, tolerance, name)):
            yield finding
    elif artifact.kind == "scores":
        yield sums_of_scores(artifact, f"{name}: sums")
        arms = {"model": sound.get(f"{where}segmenter")}
        if artifact.manifest.settings.get("control") is not None:
            arms["control"] = sound.get(f"{where}segmenter-control")
        folders = {arm: one.folder for arm, one in arms.items() if one is not None}
        if len(folders) < len(arms):
            yield not_checked(f"{name}: repeated", "the weights are not as they were made, or not here")
        elif settings.scores:
            yield repeated_scores(artifact, store, folders, place, device, tolerance)
