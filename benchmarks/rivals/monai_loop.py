"""A plain MONAI loop with the augmentation its users take, for so many seconds: ``python monai_loop.py JOB``.

``JOB`` is a JSON file: ``images`` and ``labels`` (folders of labelled scans), ``test`` (folder of scans to segment),
``masks`` (where their masks go), ``out`` (checkpoint and ``versus.json``), ``seconds``, ``spacing``, ``size``,
``batch``, ``classes``, ``seed``. Slices in the plane of the scan, MONAI's residual U-Net, Dice and cross-entropy, Adam
with a polynomial rate. Stopped at any time, it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    NormalizeIntensityd,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandScaleIntensityd,
    RandSpatialCropd,
    SpatialPadd,
)
from torch import Tensor
from torch.nn import functional

SAVE_EVERY = 120.0
RATE = 1e-3
BOTH = ("image", "label")
WAYS = ("bilinear", "nearest")


def read(path: Path) -> tuple[SimpleITK.Image, np.ndarray]:
    """A volume and its (z, y, x) values."""
    image = SimpleITK.ReadImage(str(path))
    return image, SimpleITK.GetArrayFromImage(image)


def on_grid(values: np.ndarray, spacing: tuple[float, float], wanted: float, *, label: bool) -> Tensor:
    """(z, 1, y, x) slices resampled in their plane."""
    tensor = torch.from_numpy(values.astype(np.float32))[:, None]
    size = [max(1, round(edge * step / wanted)) for edge, step in zip(values.shape[1:], spacing, strict=True)]
    way = {"mode": "nearest"} if label else {"mode": "bilinear", "align_corners": False, "antialias": True}
    return functional.interpolate(tensor, size=size, **way)


def augmentation(size: int) -> Compose:
    """Turns, scales, shears and bends a slice, changes its intensities, and normalises it."""
    return Compose([
        SpatialPadd(BOTH, (size, size)),
        RandAffined(
            BOTH, prob=0.9, rotate_range=0.52, scale_range=(0.3, 0.3), shear_range=(0.1, 0.1), translate_range=(10, 10),
            mode=WAYS, padding_mode="zeros",
        ),
        Rand2DElasticd(BOTH, spacing=(24, 24), magnitude_range=(1, 3), prob=0.3, mode=WAYS, padding_mode="zeros"),
        RandSpatialCropd(BOTH, (size, size), random_size=False),
        RandAdjustContrastd("image", prob=0.5, gamma=(0.6, 1.6)),
        RandHistogramShiftd("image", prob=0.2),
        RandGaussianNoised("image", prob=0.3, std=0.05),
        RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.5, 1.2), sigma_y=(0.5, 1.2)),
        NormalizeIntensityd("image"),
        RandScaleIntensityd("image", factors=0.3, prob=0.5),
        RandCoarseDropoutd("image", holes=3, spatial_size=16, fill_value=0, prob=0.2),
    ])  # fmt: skip


def slices_of(job: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Labelled slices on the grid, each scan in [0, 1]."""
    found = []
    for path in sorted(Path(job["labels"]).glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        image, values = read(Path(job["images"]) / f"{name}_0000.nii.gz")
        _, labels = read(path)
        plane = (image.GetSpacing()[1], image.GetSpacing()[0])
        pictures = on_grid(_scaled(values), plane, job["spacing"], label=False)
        masks = on_grid(labels, plane, job["spacing"], label=True)
        found += [{"image": picture, "label": mask} for picture, mask in zip(pictures, masks, strict=True)]
    return found


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [1, 99])
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def train(job: dict[str, Any], network: UNet) -> None:
    """Train until the seconds are over; losses and time go to ``versus.json``."""
    out, seconds, batch = Path(job["out"]), float(job["seconds"]), int(job["batch"])
    record_path, state = out / "versus.json", out / "checkpoint.pt"
    data, augment = slices_of(job), augmentation(job["size"])
    augment.set_random_state(job["seed"])
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=1e-5)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    record: dict[str, Any] = {"seconds": 0.0, "losses": []}
    if state.is_file() and record_path.is_file():
        record = json.loads(record_path.read_text())
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
    losses, before, started, saved = record["losses"], record["seconds"], time.monotonic(), time.monotonic()
    chance = np.random.default_rng([job["seed"], len(losses)])
    network.train()

    def save() -> None:
        spent = round(before + time.monotonic() - started, 1)
        torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict()}, state)
        record_path.write_text(json.dumps({"seconds": spent, "batch": batch, "losses": losses}))

    while (share := (before + time.monotonic() - started) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - share) ** 0.9
        rows = [augment(dict(data[at])) for at in chance.integers(len(data), size=batch)]
        images, labels = (torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in BOTH)
        loss = criterion(network(images.contiguous(memory_format=torch.channels_last)), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(round(float(loss.detach()), 4))
        if time.monotonic() - saved >= SAVE_EVERY:
            saved = time.monotonic()
            save()
    save()


def predict(job: dict[str, Any], network: UNet) -> None:
    """A mask for each test scan, on its own grid."""
    network.eval()
    normalise = NormalizeIntensityd("image")
    masks = Path(job["masks"])
    masks.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(job["test"]).glob("*_0000.nii.gz")):
        image, values = read(path)
        plane = (image.GetSpacing()[1], image.GetSpacing()[0])
        pictures = on_grid(_scaled(values), plane, job["spacing"], label=False)
        batch = torch.stack([torch.as_tensor(normalise({"image": picture})["image"]) for picture in pictures])
        with torch.inference_mode():
            scores = sliding_window_inference(batch, (job["size"],) * 2, 8, network, overlap=0.5, mode="gaussian")
            whole = functional.interpolate(
                scores.softmax(1), size=values.shape[1:], mode="bilinear", align_corners=False
            )
        mask = SimpleITK.GetImageFromArray(whole.argmax(1).numpy().astype(np.uint8))
        mask.CopyInformation(image)
        SimpleITK.WriteImage(mask, str(masks / path.name.replace("_0000.nii.gz", ".nii.gz")))


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(asked["seed"])
    model = UNet(2, 1, asked["classes"], (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    model = model.to(memory_format=torch.channels_last)
    if sys.argv[2] == "train":
        train(asked, model)
    else:
        model.load_state_dict(torch.load(Path(asked["out"]) / "checkpoint.pt", weights_only=True)["network"])
        predict(asked, model)
