"""A damaged artifact is refused by every stage that reads it, with the file's name and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_files import load_decoder_into, load_encoder, load_encoder_into, load_segmenter
from fewlabel.nets.unet import UNetDecoder, UNetEncoder
from fewlabel.stages import evaluate, finetune, pretrain, report
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.report import ReportSettings
from kit.command_line import fewlabel
from kit.runs import NETWORK, make_run
from kit.segmenters import make_segmenter, prepared_discs
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("damaged") / "run", subjects=8, size=(32, 32), unlabelled=3)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def noise(path: Path) -> None:
    """2 KB of noise over the tensors: the file can still be read."""
    content = bytearray(path.read_bytes())
    content[-4096:-2048] = np.random.default_rng(0).bytes(2048)
    path.write_bytes(content)


def header(path: Path) -> None:
    path.write_bytes(b"\x00" * 64 + path.read_bytes()[64:])


def fewer_slices(path: Path) -> None:
    np.save(path, np.load(path)[1:])


def objects(path: Path) -> None:
    np.save(path, np.array([{}, None]), allow_pickle=True)


def endless_header(path: Path) -> None:
    """A header that Python's own tokenizer gives up on."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'fortran_order'", b"'fortran_order\n", 1))


def scored(run: Path) -> None:
    data, out = run / "prepared", run / "again"
    settings = EvaluateSettings(data=data, segmenter=run / "segmenter", out=out, grid="prepared", device="cpu")
    evaluate.run(settings)


def told(run: Path) -> None:
    report.run(ReportSettings(run=run, out=run / "told", device="cpu"))


def pretrained(run: Path) -> None:
    pretrain.run(pretrain_settings(run / "prepared", run / "new", method="simclr"))


def tuned(run: Path) -> None:
    settings = finetune_settings(run / "prepared", run / "tuned", encoder=run / "encoder", labelled=1)
    finetune.run(settings)


DAMAGED = [
    ("prepared/images.npy", half, pretrained),
    ("prepared/images.npy", half, tuned),
    ("prepared/images.npy", half, told),
    ("prepared/images.npy", empty, pretrained),
    ("prepared/images.npy", header, pretrained),
    ("prepared/images.npy", longer, pretrained),
    ("prepared/images.npy", endless_header, pretrained),
    ("prepared/images.npy", objects, pretrained),
    ("prepared/images.npy", fewer_slices, pretrained),
    ("prepared/labels.npy", half, tuned),
    ("prepared/labels.npy", fewer_slices, tuned),
    ("encoder/embeddings.safetensors", half, told),
    ("encoder/embeddings.safetensors", empty, told),
    ("encoder/embeddings.safetensors", noise, told),
    ("encoder/encoder.safetensors", noise, tuned),
    ("encoder/encoder.safetensors", half, tuned),
    ("segmenter/segmenter.safetensors", noise, scored),
    ("segmenter/segmenter.safetensors", half, scored),
    ("segmenter/segmenter.safetensors", noise, told),
]


@pytest.mark.parametrize(
    ("name", "damage", "stage"), DAMAGED, ids=[f"{n}-{d.__name__}-{s.__name__}" for n, d, s in DAMAGED]
)
def test_a_damaged_file_is_named(run: Path, name: str, damage: Callable, stage: Callable) -> None:
    damage(run / name)
    with pytest.raises(ArtifactError) as caught:
        stage(run)
    assert caught.value.exit_code == 3
    assert Path(name).name in str(caught.value)
    assert all(fault.remedy for fault in caught.value.faults)
    for made in ("new", "tuned", "again", "told"):
        assert not (run / made / "manifest.json").exists()


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", '"text"', '{"schema_version": "one"}', '{"schema_version": null}', "{", "", "\xff\x00"],
)
def test_a_manifest_that_says_nothing_is_told_in_words(run: Path, content: str) -> None:
    (run / "segmenter/manifest.json").write_bytes(content.encode("latin-1"))
    for stage in (scored, told):
        with pytest.raises(ArtifactError) as caught:
            stage(run)
        assert str(run / "segmenter/manifest.json") in str(caught.value)
        assert "pydantic" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1 + len(caught.value.faults)
        assert caught.value.faults[0].remedy == "Make the artifact again"


def test_a_manifest_names_the_fields_it_lacks(run: Path) -> None:
    path = run / "encoder/manifest.json"
    values = json.loads(path.read_text())
    write_sealed(path, {**values, "kind": 3, "files": ["a"]})
    with pytest.raises(ArtifactError, match=r"not a valid manifest \(kind .*, files .*\)\."):
        Artifact.open(run / "encoder")
    path.write_text("{}")
    with pytest.raises(
        ArtifactError, match=r"not a valid manifest \(no kind, no schema_version, no content_hash, no files\)"
    ):
        Artifact.open(run / "encoder")


def test_a_changed_parent_that_is_damaged_too_is_told(run: Path) -> None:
    (run / "prepared/manifest.json").write_text("null")
    with pytest.raises(ArtifactError, match="has changed since"):
        Artifact.open(run / "encoder")


def test_every_reader_of_weights_looks_at_their_hash(run: Path) -> None:
    noise(run / "encoder/encoder.safetensors")
    noise(run / "segmenter/segmenter.safetensors")
    encoder = UNetEncoder(NETWORK)
    for read in (
        lambda: load_segmenter(run / "segmenter"),
        lambda: load_encoder(run / "encoder"),
        lambda: load_encoder_into(run / "encoder", encoder),
    ):
        with pytest.raises(ArtifactError, match=r"safetensors has changed"):
            read()


def test_pretrained_decoder_blocks_too(run: Path, tmp_path: Path) -> None:
    settings = pretrain_settings(run / "prepared", tmp_path / "e", method={"name": "glcl"}, steps=2)
    folder = pretrain.run(settings)
    if not (folder / "decoder.safetensors").exists():
        pytest.skip("this method leaves no decoder")
    noise(folder / "decoder.safetensors")
    with pytest.raises(ArtifactError, match=r"decoder\.safetensors has changed"):
        load_decoder_into(folder, UNetDecoder(settings.network))


def test_a_bit_of_a_manifest_is_missed(run: Path) -> None:
    path = run / "encoder/manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ArtifactError, match=r"manifest\.json is not as it was written"):
        Artifact.open(run / "encoder")


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("stage", [pretrained, tuned, told])
def test_a_bit_of_a_prepared_array_is_missed(run: Path, name: str, stage: Callable) -> None:
    if (name, stage) == ("labels.npy", pretrained):
        pytest.skip("pre-training reads no mask")
    content = bytearray((run / "prepared" / name).read_bytes())
    content[-5] ^= 1
    (run / "prepared" / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=rf"{name} has changed since it was made"):
        stage(run)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_truncated_array_stops_scoring(tmp_path: Path, name: str) -> None:
    store = prepared_discs(tmp_path / "discs", test=("s3", "s4"))
    model = make_segmenter(tmp_path / "model", PreparedStore(store).plan, labelled_subjects=["s1"], steps=3)
    half(store / name)
    with pytest.raises(ArtifactError, match=name):
        evaluate.run(EvaluateSettings(data=store, segmenter=model, out=tmp_path / "scores", device="cpu"))
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prepared/images.npy", "pretrain {run}/prepared method=simclr network.depth=3 --out {run}/new"),
        ("encoder/embeddings.safetensors", "report {run}"),
        ("segmenter/manifest.json", "report {run}"),
        ("segmenter/segmenter.safetensors", "predict {run}/segmenter {run} --out {run}/masks"),
        ("encoder/encoder.safetensors", "export {run}/encoder to=monai --out {run}/encoder.pth"),
    ],
)
def test_the_command_line_ends_with_three(run: Path, name: str, words: str) -> None:
    half(run / name)
    done = fewlabel(*words.format(run=run).split(), code=3)
    assert Path(name).name in "".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_whole_files_are_read_as_before(run: Path) -> None:
    store = PreparedStore(run / "prepared")
    assert len(store.images) == len(store.labels) == len(store.slices)
    assert isinstance(store.images, np.memmap)
    load_segmenter(run / "segmenter")
