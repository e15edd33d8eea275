"""Patients of a prepared store, and the masks that one of them carries to another."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carrying.affine import Place, affine, search, similarity
from carrying.likeness import lattice, sampled
from carrying.splines import back_error, deform, finer, smallest_determinant
from fewlabel.data.pose_record import read_poses
from fewlabel.data.store import PreparedStore

STAGES = ("similarity", "affine", "deformed", "fused")
Floats = NDArray[np.float64]


@dataclass
class Scan:
    """All slices of a patient: (n, 1, height, width), masks (n, height, width), place along the axis and phase."""

    images: Tensor
    masks: Tensor
    heights: Floats
    phases: NDArray[np.int64]
    place: Place
    found: bool

    def hot(self) -> Tensor:
        """(n, 4, height, width)."""
        return torch.nn.functional.one_hot(self.masks, 4).permute(0, 3, 1, 2).float()

    def middle(self, low: float, high: float, step: int) -> list[int]:
        """Every so manieth slice between two heights."""
        return np.flatnonzero((self.heights > low) & (self.heights < high))[::step].tolist()

    def nearest(self, target: Scan, count: int) -> list[list[int]]:
        """Own slices of the same phase that lie nearest to each slice of another patient."""
        away = np.abs(self.heights - target.heights[:, None]) + 9 * (self.phases != target.phases[:, None])
        order = np.argsort(away, axis=1, kind="stable")
        return [row[:count].tolist() for row in order]


def scans_of(store: PreparedStore) -> dict[str, Scan]:
    """Patients of the train and validation parts."""
    found = read_poses(store.folder)
    poses = {} if found is None else {pose.subject: pose for pose in found.scans}
    table, middle = store.slices, (store.images.shape[2] - 1) / 2
    scans = {}
    for subject in dict.fromkeys([*store.split["parts"]["train"], *store.split["parts"]["validation"]]):
        rows, pose = store.slices_of([subject]), poses[subject]
        down, right = pose.shift or (0.0, 0.0)
        turn = None if pose.turn is None else float(np.radians(pose.turn))
        scans[subject] = Scan(
            torch.from_numpy(np.asarray(store.images[rows], np.float32)),
            torch.from_numpy(np.asarray(store.labels[rows], np.int64)),
            table["height_fraction"].to_numpy()[rows],
            table["meta_phase"].to_numpy()[rows],
            Place((middle + right, middle + down), pose.size or 1.0, turn),
            pose.shift is not None,
        )
    return scans


def settled(source: Scan, others: list[Scan]) -> Scan:
    """The source with a place: its own, or where that is not clear the one that fits eight others best."""
    if source.place.turn is not None:
        return source
    targets = []
    for other in [scan for scan in others if scan.place.turn is not None][::4][:8]:
        own = other.middle(0.3, 0.7, 3)
        near = [row[0] for row in source.nearest(other, 1)]
        matrix = similarity(other.place, source.place)[0]
        pair = (other.images[own], source.images[[near[at] for at in own]])
        targets.append((*pair, torch.tensor(other.place.centre), matrix))
    sizes = (1.0,) if source.found else (0.8, 1.0, 1.25, 1.5)
    turn, size, centre = search(targets, torch.tensor(source.place.centre), sizes=sizes)
    place = Place((float(centre[0]), float(centre[1])), source.place.size * size, turn)
    return replace(source, place=place, found=True)


def carried(target: Scan, source: Scan) -> dict[str, Any]:
    """Masks by stage on the target's lattice of single pixels, (n, 2 SIDE, 2 SIDE), and what tells of their quality."""
    started = time.process_time()
    count, hot = len(target.images), source.hot()
    near = torch.tensor(source.nearest(target, 2))
    first, middle, single = near[:, 0], torch.tensor(target.place.centre), lattice(torch.zeros(2), 1)
    matrix, centre = similarity(target.place, source.place)
    found = {"similarity": _hard(hot[first], single @ matrix.T + centre)}
    turns: tuple[float, ...] = (-0.35, 0.0, 0.35)
    if target.place.turn is None:
        own = target.middle(0.3, 0.7, 2)
        pair = (target.images[own], source.images[first[own]], middle, matrix)
        turn, _, centre = search([pair], centre, 10.0 if target.found else 20.0)
        turns = (turn, turn - 0.35, turn + 0.35, 0.0)
    own = target.middle(0.15, 0.85, 2)
    matrix, centre, alike = affine(target.images[own], source.images[first[own]], middle, matrix, centre, turns)
    found["affine"] = _hard(hot[first], single @ matrix.T + centre)
    rows, places = torch.arange(count).repeat_interleave(2), lattice(torch.zeros(2))
    moving, start = source.images[near.flatten()], places @ matrix.T + centre
    field, likeness = deform(target.images[rows], moving, places + middle, start)
    chances = sampled(hot[near.flatten()], single @ matrix.T + centre + finer(field))
    weights = torch.softmax(likeness.view(count, 2) / 0.1, dim=1)[..., None, None, None]
    best = likeness.view(count, 2).argmax(dim=1) + 2 * torch.arange(count)
    found["deformed"] = chances[best].argmax(dim=1)
    found["fused"] = (chances.view(count, 2, *chances.shape[1:]) * weights).sum(dim=1).argmax(dim=1)
    found["truth"] = on_lattice(target.masks, target.place.centre)
    back = places @ torch.linalg.inv(matrix).T + middle
    there, _ = deform(moving[best], target.images, places + centre, back)
    found["likeness"] = likeness[best].numpy()
    found["back"] = back_error((start + field)[best] - centre, back + there - middle).numpy()
    found["least"] = (smallest_determinant(start + field) / torch.det(matrix))[best].numpy()
    found["affine likeness"] = np.full(count, alike)
    found["seconds"] = (time.process_time() - started) / count
    return found


def on_lattice(masks: Tensor, centre: tuple[float, float]) -> Tensor:
    """(n, 2 SIDE, 2 SIDE) masks about a place, of (n, height, width)."""
    hot = torch.nn.functional.one_hot(masks, 4).permute(0, 3, 1, 2).float()
    return _hard(hot, lattice(torch.tensor(centre), 1))


def _hard(hot: Tensor, places: Tensor) -> Tensor:
    return sampled(hot, places.expand(len(hot), -1, -1, -1)).argmax(dim=1)
