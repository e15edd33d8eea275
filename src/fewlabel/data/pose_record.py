"""``pose.json`` of a prepared store: how each scan lies in the slice plane, and a summary in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.data.pose import Pose, estimate_poses
from fewlabel.data.pose_matching import LEAST
from fewlabel.data.pose_thumbnails import View, store_views
from fewlabel.data.store import PreparedStore

POSES = "pose.json"
#: Share of scans, or of pairs of them, that "up to" holds for.
SHARE = 0.95
_METHOD = (
    "pictures of the middle slices registered to each other: polar correlation of all pairs, angular synchronisation, "
    "then each to the mean of the others"
)


@dataclass(frozen=True)
class Between:
    """How far two scans differ, for 95 % of all pairs.

    Attributes:
        rotation: Degrees; None where too few turns are clear.
        shift: mm between their centres; None, as ``size``, where too few scans look alike.
        size: Larger over smaller, 1 or more.
    """

    rotation: float | None
    shift: float | None
    size: float | None


@dataclass(frozen=True)
class Poses:
    """The poses of the scans of a data set.

    Attributes:
        scans: A pose per scan, the phases of one as one; none of the test part.
        phases: Scans of which at least two phases were compared.
        side: (height, width) of the prepared slice in pixels.
        spacing: (row, column) of its pixels in mm.
    """

    scans: tuple[Pose, ...]
    phases: int
    side: tuple[int, int]
    spacing: tuple[float, float]

    @property
    def turned(self) -> tuple[Pose, ...]:
        """The scans whose turn is known; none where they are too few to speak for the others."""
        return self._enough([pose for pose in self.scans if pose.turn is not None])

    @property
    def placed(self) -> tuple[Pose, ...]:
        """The scans whose place and size count; none where they are too few.

        These are the turned ones, whose registration is sure, or where they are too few all that look alike.
        """
        return self.turned or self._enough([pose for pose in self.scans if pose.shift is not None])

    def _enough(self, poses: list[Pose]) -> tuple[Pose, ...]:
        return tuple(poses) if len(poses) >= LEAST and 2 * len(poses) > len(self.scans) else ()

    def between(self) -> Between:
        """How far two scans differ."""
        turns = [pose.turn for pose in self.turned]
        places = np.array([pose.shift for pose in self.placed], float).reshape(-1, 2) * np.asarray(self.spacing)
        sizes = np.log([pose.size or 1.0 for pose in self.placed])
        return Between(
            rotation=_largest(abs(float(turn_between(a, b))) for a, b in combinations(turns, 2)),
            shift=_largest(float(np.hypot(*(a - b))) for a, b in combinations(places, 2)),
            size=_largest(math.exp(abs(float(a - b))) for a, b in combinations(sizes, 2)),
        )

    def sentence(self, unit: str = "mm") -> str:
        """How the scans differ, for a reader who knows nothing of how it was estimated.

        Args:
            unit: That the spacing was in.
        """
        count = len(self.scans)
        if count < LEAST:
            return f"fewer than {LEAST} scans are too few to say how they differ in position, size and orientation"
        cue = f"estimated from the phases of {self.phases}" if self.phases else "estimated from single phases"
        if not self.placed:
            return f"the {count} scans are too unlike to say how they differ in position, size and orientation"
        differences = self.between()
        what = f"{differences.shift:.0f} {unit} in position and a factor of {differences.size:.2f} in size"
        unknown = count - len(self.turned)
        rest = "; their orientation is unclear"
        if self.turned:
            what = f"{differences.rotation:.0f} degrees in orientation, {what}"
            rest = f"; the orientation of {unknown} is unclear" if unknown else ""
        return f"scans differ by up to {what} (19 of 20 pairs of {count} scans, {cue}){rest}"

    def record(self) -> dict[str, Any]:
        """The content of ``pose.json``."""
        differences = asdict(self.between())
        between = {key: None if value is None else round(value, 3) for key, value in differences.items()}
        return {
            "method": _METHOD,
            "cue": "differences between phases" if self.phases else "images alone",
            "phases": self.phases,
            "unknown": len(self.scans) - sum(pose.turn is not None for pose in self.scans),
            "between": {"share": SHARE, **between},
            "units": {"rotation": "degrees", "turn": "degrees, clockwise", "between.shift": "mm", "shift": "pixels"},
            "side": list(self.side),
            "spacing": list(self.spacing),
            "scans": [asdict(pose) for pose in self.scans],
        }

    @classmethod
    def load(cls, record: dict[str, Any]) -> Poses:
        """The poses of a ``pose.json`` content."""
        scans = tuple(
            Pose(
                str(row["subject"]),
                tuple(map(str, row["cases"])),
                None if row["shift"] is None else (float(row["shift"][0]), float(row["shift"][1])),
                None if row["size"] is None else float(row["size"]),
                None if row["turn"] is None else float(row["turn"]),
            )
            for row in record["scans"]
        )
        height, width = record["side"]
        row, column = record["spacing"]
        return cls(scans, int(record["phases"]), (int(height), int(width)), (float(row), float(column)))


def turn_between(first: Any, second: Any) -> Any:
    """Degrees from the second turn to the first, in [-180, 180)."""
    return (np.asarray(first) - np.asarray(second) + 180) % 360 - 180


def poses_of(views: list[View], side: tuple[int, int], spacing: tuple[float, float]) -> Poses:
    """The poses that pictures of a data set show; ``side`` and ``spacing`` are those of its prepared slices."""
    phases = sum(view.motion is not None for view in views)
    return Poses(tuple(estimate_poses(views)), phases if 2 * phases >= len(views) else 0, side, spacing)


def write_poses(store: PreparedStore, folder: Path) -> Poses:
    """Find how the scans of a store lie, and leave ``pose.json`` in a folder.

    The file is no part of the store's content: it follows from the images and the split, and a store made without it
    may get it later without a new identity.
    """
    poses = find_poses(store)
    write_json(folder / POSES, poses.record())
    return poses


def find_poses(store: PreparedStore) -> Poses:
    """How the scans of a store lie."""
    height, width = store.images.shape[2:]
    row, column = store.plan["spacing"]
    return poses_of(store_views(store), (int(height), int(width)), (float(row), float(column)))


def read_poses(folder: Path) -> Poses | None:
    """What ``pose.json`` of a prepared folder says; None where the store was made without.

    Raises:
        ArtifactError: If the file is damaged.
    """
    path = Path(folder) / POSES
    if not path.is_file():
        return None
    try:
        return Poses.load(read_json(path))
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
        problem = f"{path} is not a valid record of poses ({type(error).__name__}: {error})"
        fault = Fault(problem, remedy="Remove it, then prepare the scans again")
        raise ArtifactError("An artifact is damaged:", [fault]) from error


def _largest(values: Iterable[float]) -> float | None:
    """The quantile that "up to" stands for."""
    known = list(values)
    return float(np.quantile(known, SHARE)) if known else None
