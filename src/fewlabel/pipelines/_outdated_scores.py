"""Scores are cheap: a continued run makes them anew where its settings, or what they are of, have changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST

#: Settings of evaluate that name what is scored.
_SCORED = ("data", "segmenter", "control")


def outdated(out: Path, now: Mapping[str, Any], free: Collection[str]) -> bool:
    """Whether scores lie in a folder that were made with other settings, or of other scans or weights.

    Args:
        out: Folder of the scores; what else lies there is not judged.
        now: The settings of evaluate, recorded.
        free: Settings that change no score.
    """
    scores = Artifact.find(out, "scores")
    if scores is None:
        return False
    manifest = scores.manifest
    keys = set(now) - {"out", *_SCORED} - set(free)
    if any(manifest.settings.get(key) != now[key] for key in keys):
        return True
    scored = [Artifact.open(Path(now[key]), check_parents=False).content_hash for key in _SCORED if now[key]]
    return [parent.content_hash for parent in manifest.parents] != scored


@contextmanager
def set_aside(out: Path) -> Iterator[None]:
    """Take the artifact in ``out`` out of the way while another one is made there.

    It comes back if that fails. Otherwise its own files go, and whatever else was in the folder moves to the new one.
    """
    own = {MANIFEST, *Artifact.open(out, check_parents=False).manifest.files}
    names = (f"{out.name}-before{number or ''}" for number in count())
    aside = next(place for place in map(out.with_name, names) if not place.exists())
    out.rename(aside)
    try:
        yield
    except BaseException:
        if not out.exists():
            aside.rename(out)
        raise
    for name in own:
        (aside / name).unlink(missing_ok=True)
    for path in list(aside.iterdir()):
        if not (out / path.name).exists():
            path.rename(out / path.name)
    if not any(aside.iterdir()):
        aside.rmdir()
