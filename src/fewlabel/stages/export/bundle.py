"""A segmenter as a MONAI bundle: weights, networks and all that comes before and after, without this package."""

from __future__ import annotations

import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import torch

from fewlabel.core.artifact.files import building, write_bytes, write_json, write_text
from fewlabel.core.errors import DataError, Fault
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions
from fewlabel.data.preprocess import Plan
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages._cleaning_rule import KEY as POSTPROCESS
from fewlabel.stages._model_or_control import find_segmenter
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.export.bundle_scripts import network as bundled
from fewlabel.stages.export.bundle_sources import PACKAGE, bundle_sources
from fewlabel.stages.export.exported_model_agreement import TOLERANCE, agreement, prepared_scans
from fewlabel.stages.export.output_destination import check_folder
from fewlabel.stages.export.settings import ExportSettings

MARK = "configs/metadata.json"
_CONFIG = "configs/inference.json"
_WEIGHTS = "models/model.pt"


def write_bundle(settings: ExportSettings) -> Path:
    """Write the bundle.

    Raises:
        SettingsError: If the folder must not be written; nothing is done then.
        ArtifactError: If there is no segmenter, or no scans to check the bundle on.
        DataError: If a scan cannot be read, or the bundle's masks differ from PyTorch's; nothing is written then.
    """
    check_folder(settings.out, MARK, overwrite=settings.overwrite)
    segmenter = Segmenter.load(find_segmenter(settings.source))
    volumes = prepared_scans(segmenter, settings.scans)
    stream = io.BytesIO()
    members = bundled.Segmenter(segmenter.networks, segmenter.networks[0].config.ndim, 1)
    state = {name: tensor.contiguous().clone() for name, tensor in members.state_dict().items()}
    torch.save(state, stream)
    rebuilt = bundled.segmenter(**_architecture(segmenter)).eval()
    rebuilt.load_state_dict(state)
    with torch.inference_mode():
        found = agreement(segmenter, rebuilt, volumes)
    if found.dice >= TOLERANCE:
        problem = f"its masks differ from the segmenter's by {found.dice:.2g} in Dice, more than {TOLERANCE:g}"
        raise DataError("The bundle is not the segmenter:", [Fault(problem, remedy="Nothing was written")])
    with building(settings.out) as folder:
        write_bytes(folder / _WEIGHTS, stream.getvalue())
        write_json(folder / MARK, _metadata(segmenter))
        write_json(folder / _CONFIG, _inference(segmenter))
        for name, source in bundle_sources().items():
            write_text(folder / PACKAGE / name, source)
        write_text(folder / "docs" / "README.md", _readme(segmenter))
    say(f"{found.words('the bundle')}.")
    say(f"{settings.out}: python -m monai.bundle run --bundle_root {settings.out} --config_file "
        f"{settings.out / _CONFIG} --dataset_dir SCANS --output_dir MASKS")  # fmt: skip
    return settings.out


def _architecture(segmenter: Segmenter) -> dict[str, Any]:
    network = segmenter.networks[0]
    config: UNetConfig = network.config
    return {
        "members": len(segmenter.networks),
        "ndim": config.ndim,
        "channels": config.in_channels,
        "classes": network.classes,
        "width": config.width,
        "depth": config.depth,
        "norm": "folded" if config.norm == "batch" else config.norm,
        "slope": config.slope,
    }


def _inference(segmenter: Segmenter) -> dict[str, Any]:
    plan = segmenter.plan
    # What a scan needs; names of people and what was known of them stay behind.
    needed = Plan(
        spacing=plan.spacing,
        size=plan.size,
        channels=plan.channels,
        low=plan.low,
        high=plan.high,
        windows=plan.windows,
        slice_axis=plan.slice_axis,
        frame=plan.frame,
        label_values=plan.label_values,
        label_names=plan.label_names,
    ).record()
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "dataset_dir": "scans",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": _call("scans_in", folder="@dataset_dir", channels=len(plan.channels)),
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "plan": needed,
        "rule": segmenter.facts.get(POSTPROCESS),
        "network_def": {"_target_": f"{PACKAGE}.network.segmenter", **_architecture(segmenter)},
        "weights": _call("with_weights", network="@network_def", file=f"$@bundle_root + '/{_WEIGHTS}'"),
        "network": "$@weights.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [_call("PrepareScan", plan="@plan")]},
        "inferer": _call("VolumeInferer", window=list(segmenter.window)),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [_call("RestoreMask", plan="@plan", rule="@rule"), _call("SaveMask", folder="@output_dir")],
        },
        "masks": _call(
            "run",
            scans="@datalist",
            preprocessing="@preprocessing",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
        ),
        "run": ["$print(*@masks, sep='\\n')"],
    }


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    """A class or function of the bundle, as a configuration has it."""
    return {"_target_": f"{PACKAGE}.predicting.{name}", **arguments}


def _metadata(segmenter: Segmenter) -> dict[str, Any]:
    plan, versions = segmenter.plan, library_versions()
    config = segmenter.networks[0].config
    side = f"{config.stride}*n"
    shape = list(plan.size) if config.ndim == 2 else [side, side, side]
    common = {"type": "image", "spatial_shape": shape, "dtype": "float32", "is_patch_data": config.ndim == 3}
    channels, classes = dict(enumerate(plan.channels)), dict(enumerate(plan.label_names))
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": "Exported by fewlabel"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"].split("+")[0],
        "numpy_version": versions["numpy"],
        "required_packages_version": {
            "SimpleITK": versions["SimpleITK"],
            "nibabel": importlib.metadata.version("nibabel"),
            "scipy": versions["scipy"],
        },
        "name": plan.dataset or "segmenter",
        "task": f"Segmentation of {', '.join(plan.label_names[1:])}",
        "description": f"Segmenter made by fewlabel {versions['fewlabel']}, content {segmenter.content_hash}",
        "authors": "fewlabel export",
        "copyright": "",
        "intended_use": "Research only; not a medical device",
        "network_data_format": {
            "inputs": {
                "image": {
                    **common,
                    "format": "magnitude",
                    "modality": "n/a",
                    "num_channels": len(channels),
                    "value_range": [0, 1] if config.ndim == 2 else [],
                    "channel_def": {str(number): name for number, name in channels.items()},
                }
            },
            "outputs": {
                "pred": {
                    **common,
                    "type": "probabilities" if config.ndim == 2 else "logits",
                    "format": "segmentation",
                    "num_channels": len(classes) * (1 if config.ndim == 2 else len(segmenter.networks)),
                    "value_range": [0, 1] if config.ndim == 2 else [],
                    "channel_def": {str(number): name for number, name in classes.items()},
                }
            },
        },
    }


def _readme(segmenter: Segmenter) -> str:
    plan = segmenter.plan
    values = "\n".join(f"| {value} | {name} |" for value, name in zip(plan.label_values, plan.label_names, strict=True))
    several = "" if len(plan.channels) == 1 else (
        f"\nA scan has {len(plan.channels)} channels, {json.dumps(list(plan.channels))}: files CASE_0000.nii.gz, "
        "CASE_0001.nii.gz and so on, in this order.\n"
    )  # fmt: skip
    return f"""# A segmenter made by fewlabel

```bash
pip install monai fire SimpleITK nibabel scipy
python -m monai.bundle run --bundle_root . --config_file {_CONFIG} --dataset_dir SCANS --output_dir MASKS
```

SCANS is a folder of NIfTI files (.nii.gz, .nii); each mask has the name, the grid and the header of its scan.
{several}
| value | structure |
|---|---|
{values}

The code in `{PACKAGE}` is a copy of fewlabel's, Apache-2.0. Not a medical device: masks are for research and need a
reader.
"""
