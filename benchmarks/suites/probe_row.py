"""How an encoder is probed: banks of labelled patients, and the scored patients' cells, one patient after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.rng import numpy_stream, stream_seed
from fewlabel.data.evenly_spread_slices import Spread, spread_slices
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.store import PreparedStore
from fewlabel.engine.collapse_monitor import effective_rank, spread
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.engine.weight_files import load_decoder_into, load_encoder, load_encoder_into
from fewlabel.methods.base import pooled
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder
from fewlabel.protocol.exposure import images_of, met_among
from fewlabel.protocol.training_eligibility import drawn_labels, training_slices
from fewlabel.scoring.embedding import neighbour_purity
from fewlabel.scoring.metrics import score_case
from fewlabel.scoring.probe import IGNORED, Probe, Scale, balanced_rows, coarse_labels, scale_of
from suites import probe_features
from suites.probe_arms import Arm
from suites.probe_features import STRIDE, Description

#: Training slices that statistics and scales are of, and rows of a pass.
SLICES, ROWS = 128, 16
#: The part that is scored, in a split to make choices on.
PART = "test"
WIDTH = 16
#: Meta labels whose neighbourhoods are looked at, among slices of other patients.
LABELS = ("position", "phase")


@dataclass(frozen=True)
class Probed:
    """What a probe says of an encoder.

    Attributes:
        dice: Draw → ``neighbours`` and ``linear``, each with means over scans and classes, by class and by phase.
        slices: How slices of the scored patients are embedded; empty without an encoder.
    """

    dice: Mapping[int, Mapping[str, Any]]
    slices: Mapping[str, Any]


def described(arm: Arm, store: PreparedStore, folder: Path | None, seed: int) -> tuple[Description, UNetEncoder | None]:
    """Features of an arm, and its encoder with the statistics of whole training slices.

    Raises:
        ValueError: If the encoder has met images of scored patients.
    """
    if arm.kind == "intensities":
        return probe_features.of_intensities(), None
    if arm.kind == "places":
        return probe_features.of_places(), None
    torch.manual_seed(stream_seed(seed, "encoder"))
    config = UNetConfig(width=WIDTH, in_channels=int(store.images.shape[1]))
    if folder is not None:
        met = met_among(scored(store), images_of(Artifact.open(folder, "encoder")), "acdc")
        if met:
            raise ValueError(f"{folder} has met images of patients who are scored: {', '.join(sorted(met))}")
        config = load_encoder(folder)[0].config
    network = UNet(config, classes=1)
    if folder is not None:
        load_encoder_into(folder, network.encoder)
        if arm.of:
            load_decoder_into(folder, network.decoder)
    network = network.eval().to(memory_format=torch.channels_last)
    recalibrate(network if arm.of else network.encoder, _training(store).batches(ROWS))
    if arm.of:
        return probe_features.of_network(network.encoder, network.decoder), network.encoder
    return probe_features.of_encoder(network.encoder), network.encoder


def probed(store: PreparedStore, description: tuple[Description, UNetEncoder | None], draws: Sequence[int]) -> Probed:
    """Tell the classes of the scored patients' cells by banks of the draws' patients."""
    how, encoder = description
    classes = len(store.label_names)
    scale = _scale(store, how)
    probes = {draw: _probe(store, how, scale, draw, classes) for draw in draws}
    scores: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    embedded, where = [], []
    for case, rows in _cases(store):
        subject = str(store.slices["subject"].iloc[rows[0]])
        images = _images(store, rows)
        cells = _cells(how.features(images, _heights(store, rows)))
        truth = coarse_labels(np.asarray(store.labels[rows]), STRIDE, classes)
        for draw, probe in probes.items():
            for name in ("neighbours", "linear"):
                told = getattr(probe, name)(cells, [subject]).reshape(truth.shape)
                scores[draw, name].append(_score(store, case, rows, told, truth, classes))
        if encoder is not None:
            with torch.inference_mode():
                embedded.append(pooled(encoder(images)[-1]))
            where.append(rows)
    dice = {draw: {name: figures(scores[draw, name]) for name in ("neighbours", "linear")} for draw in draws}
    slices = _embedding(store, torch.cat(embedded), np.concatenate(where)) if embedded else {}
    return Probed(dice, slices)


def scored(store: PreparedStore) -> list[str]:
    """Patients whose cells are told."""
    return sorted(store.split["parts"][PART])


def _cases(store: PreparedStore) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Scans of the scored patients and their slices, in order."""
    indices = store.slices_of(scored(store), labelled=True)
    names = store.slices["case"].to_numpy()[indices]
    for case in sorted(set(names)):
        yield str(case), indices[names == case]


def _training(store: PreparedStore) -> Spread:
    """Slices of the patients who are not scored, as spread as they can be."""
    return Spread(store, spread_slices(store, training_slices(store, ("pretrain",)), SLICES, 0), None, 0)


def _scale(store: PreparedStore, how: Description) -> Scale:
    slices = _training(store).slices
    parts = [
        _cells(how.features(_images(store, part), _heights(store, part)))
        for part in np.array_split(slices, max(len(slices) // ROWS, 1))
    ]
    return scale_of(torch.cat(parts), how.sizes)


def _probe(store: PreparedStore, how: Description, scale: Scale, draw: int, classes: int) -> Probe:
    """A probe by the labelled patient of a draw, as balanced over classes as their slices allow."""
    subjects = drawn_labels(store, 1, draw).labelled
    rows = store.slices_of(subjects, labelled=True)
    images, masks = probe_features.turned(
        _images(store, rows), torch.from_numpy(np.array(store.labels[rows])), how.turns
    )
    heights = _heights(store, rows).repeat(how.turns)
    labels = coarse_labels(masks.numpy(), STRIDE, classes)
    slices = np.arange(len(labels)).repeat(labels[0].size)
    taken = balanced_rows(labels.ravel(), slices, numpy_stream(draw, "probe"))
    bank, first = [], 0
    for part in zip(images.split(ROWS), heights.split(ROWS), strict=True):
        cells = _cells(how.features(*part))
        own = taken[(taken >= first) & (taken < first + len(cells))]
        bank.append(cells[torch.from_numpy(own - first)])
        first += len(cells)
    return Probe(torch.cat(bank), labels.ravel()[taken], subjects, scale, classes)


def _images(store: PreparedStore, rows: NDArray[np.int64]) -> Tensor:
    return standardise(torch.from_numpy(np.array(store.images[rows])))


def _heights(store: PreparedStore, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(store.slices["height_fraction"].to_numpy(dtype=np.float32)[rows])


def _cells(maps: Tensor) -> Tensor:
    """(n, dim, height, width) to (n·height·width, dim)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2).float()


def _score(
    store: PreparedStore,
    case: str,
    rows: NDArray[np.int64],
    told: NDArray[np.int64],
    truth: NDArray[np.uint8],
    classes: int,
) -> dict[str, Any]:
    """Dice of each class in a scan, and its phase."""
    known = np.where(truth == IGNORED, IGNORED, told)
    found = score_case(known, truth, (1.0, 1.0, 1.0), range(1, classes), surface=False)
    return {
        "case": case,
        "phase": int(store.slices["meta_phase"].iloc[rows[0]]),
        "dice": {store.label_names[score.index]: score.dice for score in found},
    }


def figures(scans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean Dice over scans and classes, by class and by phase."""
    table = np.array([list(scan["dice"].values()) for scan in scans])
    phases = np.array([scan["phase"] for scan in scans])
    return {
        "dice": round(float(table.mean()), 4),
        "dice_by_class": dict(zip(scans[0]["dice"], np.round(table.mean(axis=0), 4).tolist(), strict=True)),
        "dice_by_phase": {str(phase): round(float(table[phases == phase].mean()), 4) for phase in np.unique(phases)},
    }


def _embedding(store: PreparedStore, embedded: Tensor, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Spread and effective rank of pooled last maps, and the purity of their neighbourhoods in other patients."""
    vectors = torch.nn.functional.normalize(embedded.float(), dim=1)
    table = store.slices.iloc[rows]
    groups = np.unique(table["subject"], return_inverse=True)[1]
    purity = {}
    for name in LABELS:
        found = neighbour_purity(vectors.numpy(), table[f"meta_{name}"].to_numpy(dtype=np.int64), groups=groups)
        if found is not None:
            purity[name] = {"purity": round(found.purity, 4), "chance": round(found.chance, 4)}
    return {
        "spread": round(spread(vectors), 4),
        "effective_rank": round(effective_rank(vectors), 2),
        "purity": purity,
    }
