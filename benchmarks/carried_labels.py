"""Labels carried from one labelled patient to all others by registration, against the truth.

    python benchmarks/carried_labels.py --data PREPARED [--draws 0,1] [--patients 10] [--segmenter SEGMENTER]

PREPARED is a prepared ACDC folder with ``pose.json``; patients of its train and validation parts get labels. Their own
masks measure the outcome and nothing else. With a segmenter: how well its phases agree, whether that tells its good
masks from its bad ones, and how right it is where carried labels agree with it. A slice takes about 60 ms of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from carrying.patients import STAGES, Floats, Scan, carried, on_lattice, scans_of, settled
from fewlabel.data.store import PreparedStore
from fewlabel.stages._segmenter import Segmenter

CLASSES = (1, 2, 3)
CUES = ("likeness", "affine likeness")


def counts(masks: Any, truth: Any, whole: Any = None) -> Floats:
    """(n, 3, 3) pixels of each class in both, in the masks and in the truth, slice by slice.

    Args:
        masks: (n, rows, columns) classes.
        truth: The same.
        whole: (n, height, width) the truth beyond these rows and columns too, which masks that end there miss.
    """
    masks, truth = np.asarray(masks), np.asarray(truth)
    whole = truth if whole is None else np.asarray(whole)
    parts = [((masks == c) & (truth == c), masks == c, whole == c) for c in CLASSES]
    return np.array([[part.sum(axis=(1, 2)) for part in row] for row in parts], float).transpose(2, 0, 1)


def dice(slices: Floats) -> Floats:
    """(3,) by class, of the slices taken together."""
    both, own, true = slices.sum(axis=0).T
    return np.asarray(2 * both / np.maximum(own + true, 1))


def phase_dice(slices: Floats, phases: Any) -> Floats:
    """(phases, 3) of one patient."""
    return np.array([dice(slices[phases == phase]) for phase in np.unique(phases)])


def muscle_ratio(masks: Any, phases: Any) -> float:
    """Logarithm of the myocardium of the first phase over that of the second."""
    first, second = ((np.asarray(masks)[phases == phase] == 2).sum() + 1 for phase in (0, 1))
    return float(np.log(first / second))


def told(values: Any) -> str:
    """Mean and classes."""
    values = np.asarray(values)
    return f"{values.mean():.3f} ({' '.join(f'{value:.2f}' for value in values)})"


def carry(source: Scan, others: dict[str, Scan], network: dict[str, NDArray[np.intp]]) -> None:
    """Print what one labelled patient gives to the others."""
    source = settled(source, list(others.values()))
    found = {subject: carried(scan, source) for subject, scan in others.items()}
    for stage in STAGES:
        parts = {key: counts(row[stage], row["truth"], others[key].masks) for key, row in found.items()}
        every = np.concatenate([phase_dice(part, others[key].phases) for key, part in parts.items()])
        good = (every.mean(axis=1) >= 0.6).mean()
        print(f"| {stage} | {told(every.mean(axis=0))} | {good:.2f} of {len(every)} scans at .6 or more |")
    slices = np.concatenate(list(parts.values()))
    sums = slices[:, :, 1] + slices[:, :, 2]
    single = np.nansum(2 * slices[:, :, 0] / np.maximum(sums, 1), axis=1) / np.maximum((sums > 0).sum(axis=1), 1)
    cues = {name: np.concatenate([row[name] for row in found.values()]) for name in CUES}
    cues["back"] = -np.concatenate([row["back"] for row in found.values()])
    ratios = [np.full(len(row["fused"]), muscle_ratio(row["fused"], others[key].phases)) for key, row in found.items()]
    cues["phases"] = -np.abs(np.concatenate(ratios))
    cues["likeness and back"] = rankdata(cues["likeness"]) + rankdata(cues["back"])
    cues["(truth)"] = single
    shown = sums.any(axis=1)
    for name, cue in cues.items():
        order = np.argsort(-cue)
        quarter, half = (told(dice(slices[order[: len(order) // part]])) for part in (4, 2))
        rho = spearmanr(cue[shown], single[shown]).statistic
        print(f"| {name} | rank correlation {rho:.2f} | best quarter {quarter} | best half {half} |")
    least = np.concatenate([row["least"] for row in found.values()])
    print(f"without folds {(least > 0).mean():.3f}, determinant over 0.2 {(least > 0.2).mean():.3f}")
    for phase in (0, 1):
        drawn, true = (spread(found, others, name, phase) for name in ("deformed", "truth"))
        alike = [round(float(np.corrcoef(drawn[:, at], true[:, at])[0, 1]), 2) for at in (0, 1)]
        print(f"phase {phase}, logarithms of radius and wall: deviation {drawn.std(axis=0).round(2)} carried, ", end="")
        print(f"{true.std(axis=0).round(2)} in truth, correlation {alike}")
    if network:
        half = np.argsort(-cues["likeness and back"])[: len(slices) // 2]
        beside(network, others, found, half)
    print(f"{1000 * np.median([row['seconds'] for row in found.values()]):.0f} ms a slice", flush=True)


def spread(found: dict[str, Any], others: dict[str, Scan], name: str, phase: int) -> Floats:
    """(patients, 2) logarithm of the outer radius and of the wall of the left ventricle in the middle slices."""
    rows = []
    for subject, scan in others.items():
        chosen = (scan.phases == phase) & (scan.heights > 0.3) & (scan.heights < 0.7)
        masks = found[subject][name].numpy()[chosen]
        inner, outer = (np.sqrt(part.sum(axis=(1, 2)) / np.pi) for part in (masks == 3, masks >= 2))
        rows.append([np.log(np.maximum(outer, 0.5)).mean(), np.log(np.maximum(outer - inner, 0.5)).mean()])
    return np.array(rows)


def phases_of_the_truth(scans: dict[str, Scan], spacing: float) -> None:
    """Print what the two phases of a patient share."""
    ratios = np.array([muscle_ratio(scan.masks, scan.phases) for scan in scans.values()])
    apart = []
    for scan in scans.values():
        for first, second in zip(scan.masks[scan.phases == 0], scan.masks[scan.phases == 1], strict=True):
            places = [torch.nonzero(mask == 3).double() for mask in (first, second)]
            if min(map(len, places)) > 20:
                apart.append(spacing * float((places[0].mean(dim=0) - places[1].mean(dim=0)).norm()))
    low, high = np.exp(np.quantile(ratios, [0.05, 0.95]))
    print(f"myocardium, first phase over second: median {np.exp(np.median(ratios)):.2f}, ", end="")
    print(f"deviation of the logarithm {ratios.std():.3f}, 5 to 95 % {low:.2f} to {high:.2f}")
    print(f"centre of the left ventricle: median {np.median(apart):.1f} mm apart, ", end="")
    print(f"95 % within {np.quantile(apart, 0.95):.1f} mm")


def predicted(segmenter: Segmenter, scans: dict[str, Scan]) -> dict[str, NDArray[np.intp]]:
    """The segmenter's masks; print how agreement of a patient's phases, and confidence, go with their Dice."""
    found, quality, apart, sure = {}, [], [], []
    for key, scan in scans.items():
        masks, highest = np.zeros(scan.masks.shape, np.intp), np.zeros(scan.masks.shape)
        for phase in (0, 1):
            images = scan.images[scan.phases == phase].transpose(0, 1).numpy()
            chances = np.asarray(segmenter.predict(images).probabilities)
            masks[scan.phases == phase], highest[scan.phases == phase] = chances.argmax(axis=0), chances.max(axis=0)
        found[key] = masks
        quality.append(phase_dice(counts(masks, scan.masks), scan.phases).mean())
        apart.append(-abs(muscle_ratio(masks, scan.phases)))
        sure.append(highest[masks > 0].mean() if (masks > 0).any() else 0.0)
    rho = [spearmanr(cue, quality).statistic for cue in (apart, sure)]
    print(f"segmenter: Dice {np.mean(quality):.3f}; rank correlation with agreement of phases {rho[0]:.2f}, ", end="")
    print(f"with confidence in the foreground {rho[1]:.2f}")
    return found


def beside(network: dict[str, NDArray[np.intp]], others: dict[str, Scan], found: Any, half: Any) -> None:
    """Print what a network says of the same slices, and how right it is where carried labels say the same."""
    slices = np.concatenate([counts(network[key], scan.masks) for key, scan in others.items()])
    print(
        f"the segmenter: all slices {told(dice(slices))}, the best half by likeness and back {told(dice(slices[half]))}"
    )
    alone, agreed = [], []
    for key, scan in others.items():
        own = on_lattice(torch.from_numpy(network[key]), scan.place.centre).numpy()
        truth, carried_ = found[key]["truth"].numpy(), found[key]["fused"].numpy()
        alone.append(counts(own, truth))
        agreed.append(counts(np.where(own == carried_, own, 0), truth))
    for name, parts in (("alone", alone), ("where carried labels agree", agreed)):
        both, said, true = np.concatenate(parts).sum(axis=0).T
        print(f"its pixels {name}: right {told(both / said)}, of the truth {told(both / true)}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a prepared folder")
    parser.add_argument("--draws", default="0,1", help="draws of one labelled patient")
    parser.add_argument("--patients", type=int, default=0, help="only the last so many patients get labels")
    parser.add_argument("--segmenter", type=Path, help="a finished segmenter of the store's plan")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = PreparedStore(arguments.data)
    scans = scans_of(store)
    phases_of_the_truth(scans, store.plan["spacing"][0])
    chosen = list(scans)[-arguments.patients :]
    network = {}
    if arguments.segmenter:
        network = predicted(Segmenter.load(arguments.segmenter), {subject: scans[subject] for subject in chosen})
    for draw in map(int, arguments.draws.split(",")):
        labelled = store.split["draws"]["1"][draw]["labelled"][0]
        others = {subject: scans[subject] for subject in chosen if subject != labelled}
        print(f"\ndraw {draw}, {labelled}, to {len(others)} patients")
        carry(scans[labelled], others, network)


if __name__ == "__main__":
    main()
