"""How wrong the poses of scans are that were found without labels, and how much of it hangs on each threshold.

    python benchmarks/pose_error.py --data PREPARED [--start 2 3 --end 1] [--one-phase] [--shipped]

Looks at the patients in the parts ``train`` and ``validation`` of a prepared folder alone, so the split decides on whom
thresholds may be chosen. Truth comes from the masks in the middle half of the slices, averaged over slices and phases:
the direction from the centroid of the classes ``--start`` to that of ``--end``, the place of ``--start`` (without it,
of the foreground), and half the logarithm of the foreground's area. Turns, places and sizes count up to a constant that
all scans share. Without ``--start`` and ``--end`` turns are not scored. The last line tells how far the sizes that one
half of the pairs gives agree with those of the other half.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewlabel.data.pose import Pose, Thresholds, judged_poses
from fewlabel.data.pose_matching import Matched, Matching, match_views
from fewlabel.data.pose_thumbnails import View, store_views
from fewlabel.data.store import UNLABELLED, PreparedStore

#: Pixels of a structure in a slice below which the slice tells no direction.
LEAST_PIXELS = 20
#: What each threshold is varied over, one at a time.
GRID: dict[str, tuple[float, ...]] = {
    "agree": (15, 20, 25, 35, 40, 50),
    "share": (0.4, 0.5, 0.6, 0.65, 0.75, 0.8, 0.9),
    "common_moving": (0.0, 0.2, 0.25, 0.35, 0.4, 0.5),
    "common_still": (0.0, 0.2, 0.3, 0.35, 0.45, 0.5, 0.6),
    "moving": (1.6, 2.0, 2.2, 2.6, 3.0),
    "seen": (0.6, 0.8, 0.9, 1.0),
    "rounds": (0, 1, 2, 5),
}
COLUMNS = (
    "setting", "unknown", "turn rms", "median", "over 30", "95 % found", "true",
    "place rms", "size rms", "spread found", "true", "r",
)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What masks say of one scan: degrees clockwise or None, (row, column) in pixels, logarithm of the size."""

    turn: float | None
    place: tuple[float, float]
    size: float


def allowed_views(store: PreparedStore, *, one_phase: bool = False) -> list[View]:
    """Pictures of the patients that train or validate; with ``one_phase`` of the first phase of each alone."""
    parts = store.split["parts"]
    allowed = {*parts["train"], *parts["validation"]}
    store.cases = tuple(case for case in store.cases if case.subject in allowed)
    views = store_views(store)
    if one_phase:
        first = {view.cases[0] for view in views}
        store.cases = tuple(case for case in store.cases if case.id in first)
        views = store_views(store)
    return views


def truth_of(masks: Sequence[np.ndarray], start: Sequence[int], end: Sequence[int]) -> Truth | None:
    """What the masks of all phases of a scan, each (slices, height, width), say; None where they show nothing."""
    slices = [mask for scan in masks for mask in scan[len(scan) // 4 : max(len(scan) - len(scan) // 4, 1)]]
    slices = [mask for mask in slices if not (mask == UNLABELLED).any()]
    shown = [mask for mask in slices if _inside(mask, start).sum() > LEAST_PIXELS]
    if not shown:
        return None
    both = [mask for mask in shown if end and np.isin(mask, end).sum() > LEAST_PIXELS]
    down, right = (
        np.mean([_centroid(np.isin(mask, end)) - _centroid(_inside(mask, start)) for mask in both], axis=0)
        if both and start
        else (np.nan, np.nan)
    )
    turn = None if np.isnan(down) else float(np.degrees(np.arctan2(down, right)))
    place = np.mean([_centroid(_inside(mask, start)) for mask in shown], axis=0)
    return Truth(
        turn, (float(place[0]), float(place[1])), 0.5 * float(np.log(np.mean([(m > 0).sum() for m in slices])))
    )


def _inside(mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    return np.isin(mask, classes) if classes else mask > 0


def _centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def errors(poses: Sequence[Pose], truths: Sequence[Truth | None]) -> list[str]:
    """The figures of one line: see ``COLUMNS``. Degrees, pixels of the prepared grid, logarithms."""
    pairs = [(pose, truth) for pose, truth in zip(poses, truths, strict=True) if truth is not None]
    turned = [(pose.turn, truth.turn) for pose, truth in pairs if pose.turn is not None and truth.turn is not None]
    placed = [(pose, truth) for pose, truth in pairs if pose.shift is not None]
    figures = [str(sum(pose.turn is None for pose, _ in pairs))]
    if turned:
        found, wanted = np.array(turned).T
        off = np.abs(about_mean(found - wanted))
        figures += [f"{np.sqrt((off**2).mean()):.1f}", f"{np.median(off):.1f}", str(int((off > 30).sum()))]
        true = [truth.turn for _, truth in pairs if truth.turn is not None]
        figures += [f"{np.quantile(np.abs(about_mean(angles)), 0.95):.0f}" for angles in (found, np.array(true))]
    else:
        figures += ["-"] * 5
    if len(placed) < 2:
        return [*figures, *["-"] * 5]
    away = np.array([np.array(pose.shift) - truth.place for pose, truth in placed])
    rows, columns = np.sqrt(((away - away.mean(axis=0)) ** 2).mean(axis=0))
    sizes = np.array([[np.log(pose.size), truth.size] for pose, truth in placed]).T
    found, wanted = sizes - sizes.mean(axis=1, keepdims=True)
    figures += [f"{rows:.1f}, {columns:.1f}", f"{np.sqrt(((found - wanted) ** 2).mean()):.3f}"]
    return [*figures, f"{found.std():.3f}", f"{wanted.std():.3f}", f"{correlation(found, wanted):.2f}"]


def about_mean(angles: np.ndarray) -> np.ndarray:
    """Degrees less their circular mean, in [-180, 180)."""
    mean = np.degrees(np.angle(np.exp(1j * np.radians(angles)).sum()))
    return (angles - mean + 180) % 360 - 180


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's; not a number where one does not vary."""
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else float("nan")


def settings(moving: bool) -> Iterator[tuple[str, Thresholds, Matching]]:
    """The thresholds as shipped, then one changed at a time; none that says nothing of these scans."""
    yield "as shipped", Thresholds(), Matching()
    for name, values in GRID.items():
        if name == ("common_still" if moving else "common_moving") or (name == "moving" and not moving):
            continue
        for value in values:
            changed = {name: value}
            if name in Matching.__dataclass_fields__:
                yield f"{name} {value}", Thresholds(), replace(Matching(), **changed)
            else:
                yield f"{name} {value}", replace(Thresholds(), **changed), Matching()


def agreement_of_halves(matched: Matched, alike: np.ndarray, draws: int = 20) -> float:
    """Correlation of sizes by one half of the other scans with those by the other half, mean over random halves."""
    generator, count = np.random.default_rng(0), len(matched.sizes)
    found = []
    for _ in range(draws):
        half = generator.permutation(count) < count // 2
        one, other = (
            (matched.trust * (matched.ratios + matched.sizes))[:, side].sum(axis=1)
            / np.maximum(matched.trust[:, side].sum(axis=1), 1e-9)
            for side in (half, ~half)
        )
        found.append(correlation(one[alike], other[alike]))
    return float(np.mean(found))


def compare(views: list[View], matching: Matching) -> Matched:
    """The views compared with each other."""
    matched = match_views(views, matching)
    if matched is None:
        raise SystemExit("These scans are too few, or show too little, to be compared")
    return matched


def main(arguments: argparse.Namespace) -> None:
    """Print the table."""
    store = PreparedStore(arguments.data)
    views = allowed_views(store, one_phase=arguments.one_phase)
    by_id = {case.id: case for case in store.cases}
    truths = [
        truth_of(
            [np.asarray(store.labels[by_id[name].start : by_id[name].stop]) for name in view.cases],
            arguments.start,
            arguments.end,
        )
        for view in views
    ]
    first = compare(views, Matching())
    compared = {Matching(): first}
    print(f"{len(views)} scans, {sum(truth is not None for truth in truths)} with masks")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name, thresholds, matching in settings(first.moving):
        if matching not in compared:
            compared[matching] = compare(views, matching)
        poses = judged_poses(views, compared[matching], thresholds)
        print("| " + " | ".join([name, *errors(poses, truths)]) + " |", flush=True)
        if arguments.shipped:
            break
    alike = np.array([pose.size is not None for pose in judged_poses(views, first, Thresholds())])
    print(f"sizes by halves of the pairs: r = {agreement_of_halves(first, alike):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with masks")
    parser.add_argument("--start", type=int, nargs="+", default=[], help="class indices where the direction starts")
    parser.add_argument("--end", type=int, nargs="+", default=[], help="class indices where it ends")
    parser.add_argument("--one-phase", action="store_true", help="only the first phase of each scan")
    parser.add_argument("--shipped", action="store_true", help="only the thresholds as shipped")
    main(parser.parse_args())
