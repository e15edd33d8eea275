"""A segmenter as an ONNX model, checked against PyTorch on real scans before it is written."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel.core.artifact.files import write_bytes, write_json
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions
from fewlabel.stages._cleaning_rule import KEY as POSTPROCESS
from fewlabel.stages._model_or_control import find_segmenter
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.export.bundle_scripts.network import Segmenter as Members
from fewlabel.stages.export.exported_model_agreement import TOLERANCE, agreement, prepared_scans
from fewlabel.stages.export.output_destination import check_file
from fewlabel.stages.export.settings import ExportSettings

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(settings: ExportSettings) -> Path:
    """Write the model and, beside it, a JSON that says what it takes and gives.

    A 2D segmenter takes prepared slices in [0, 1], any number of them, and gives probabilities; standardisation, the
    padding of odd sides and the mean over members are inside. A 3D one takes windows of standardised volumes and gives
    logits, member by member, because windows are joined before the softmax.

    Raises:
        SettingsError: If a file must not be written, or the extra ``onnx`` is not installed; nothing is done then.
        ArtifactError: If there is no segmenter, or no scans to check the model on.
        DataError: If a scan cannot be read, or the model's masks differ from PyTorch's; nothing is written then.
    """
    check_file(settings.out, (".onnx",), "segmenter.onnx", overwrite=settings.overwrite)
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        fault = Fault(f"needs {', '.join(missing)}", "to=onnx", 'Install the extra: pip install "fewlabel[onnx]"')
        raise SettingsError("Nothing was written:", [fault])
    segmenter = Segmenter.load(find_segmenter(settings.source))
    volumes = prepared_scans(segmenter, settings.scans)
    network = segmenter.networks[0].config
    members = Members(segmenter.networks, network.ndim, network.stride).eval()
    content, names = _converted(members, segmenter)
    found = agreement(segmenter, _runtime(content, names[0]), volumes)
    if found.dice >= TOLERANCE:
        problem = f"its masks differ from PyTorch's by {found.dice:.2g} in Dice, more than {TOLERANCE:g}"
        remedy = "Nothing was written; try other versions of onnxscript and onnxruntime"
        raise DataError("The ONNX model is not the segmenter:", [Fault(problem, remedy=remedy)])
    write_bytes(settings.out, content)
    description = {
        "format": "onnx",
        "model": settings.out.name,
        **described(segmenter),
        "names": {"input": names[0], "output": names[1]},
        "checked": {**asdict(found), "threads": torch.get_num_threads()},
        "content_hash": segmenter.content_hash,
        "versions": {**library_versions(), **_versions()},
    }
    write_json(settings.out.with_suffix(".json"), description)
    say(f"{found.words('onnxruntime')}.")
    say(f"{settings.out} ({len(content) / 2**20:.1f} MB), what it takes and gives in {settings.out.stem}.json")
    return settings.out


def described(segmenter: Segmenter) -> dict[str, Any]:
    """What the networks take and give, and what becomes of it."""
    plan, network = segmenter.plan, segmenter.networks[0]
    slicewise = network.config.ndim == 2
    given: dict[str, Any] = {
        "values": "intensities in [0, 1]: of each scan and channel, low becomes 0 and high becomes 1",
        "channels": list(plan.channels),
        "spacing_mm": list(plan.spacing),
        "size": list(plan.size),
        "windows": [None if window is None else list(window) for window in plan.windows],
        "percentiles": {"low": plan.low, "high": plan.high},
        "slice_axis": plan.slice_axis,
        "frame": [list(row) for row in plan.frame],
    }
    if not slicewise:
        given["values"] += "; then each slice and channel at mean 0 and variance 1"
        given |= {"window": list(segmenter.window), "sides_are_multiples_of": network.config.stride}
    return {
        "ndim": network.config.ndim,
        "members": len(segmenter.networks),
        "input": given,
        "output": {
            "values": "probabilities" if slicewise else "logits, all classes of a member after another",
            "classes": list(plan.label_names),
            "mask_values": list(plan.label_values),
        },
        "postprocess": segmenter.facts.get(POSTPROCESS),
    }


def _converted(members: Members, segmenter: Segmenter) -> tuple[bytes, tuple[str, str]]:
    """The model, and the names of what it takes and gives."""
    plan, config = segmenter.plan, segmenter.networks[0].config
    if config.ndim == 2:
        names = ("slices", "probabilities")
        sample = torch.zeros(3, len(plan.channels), *plan.size)
        free: dict[int, Any] = {0: torch.export.Dim("n")}
    else:
        names = ("windows", "logits")
        sides = [max(config.stride, side - side % config.stride) for side in segmenter.window]
        sample = torch.zeros(2, len(plan.channels), *sides)
        free = {0: torch.export.Dim("n")}
        free |= {2 + axis: config.stride * torch.export.Dim(f"cells_{axis}", min=1) for axis in range(3)}
    with _quietly():
        program = torch.onnx.export(
            members,
            (sample,),
            dynamo=True,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_shapes=(free,),
            external_data=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gives a program unless it writes a file")
    model = program.model_proto
    # Where the code of this machine lies is nobody's business.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    return model.SerializeToString(), names


def _runtime(content: bytes, name: str) -> Callable[[Tensor], Tensor]:
    """The model as onnxruntime runs it, with as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in _PACKAGES}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's own words, which are about itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
