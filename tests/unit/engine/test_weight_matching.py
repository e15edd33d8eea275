"""Weights travel: the table of what fits, strict loading under other names, and other libraries' names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.engine.foreign_names import foreign
from fewlabel.engine.weight_matching import WeightMatch, load_strictly, match_weights, read_tensors
from fewlabel.nets.unet import UNetConfig, UNetEncoder

RECORDED = json.loads((Path(__file__).parent / "plain_conv_unet_states.json").read_text())["states"]
SMALL = UNetConfig(width=4, depth=2)
MATCH = WeightMatch(
    matched={"a.weight": (4, 1, 3, 3), "steps": ()},
    missing={"b.bias": (4,)},
    reshaped={"c.weight": ((8, 4), (8, 5))},
    unexpected={"decoder.x": (2, 3)},
)


def zeros(**shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_every_name_has_one_place_in_the_table():
    """Against a plain rule, for every way in which three names can be absent, of one shape or of another."""
    choices = (None, (2,), (3,))
    for picked in itertools.product(itertools.product(choices, choices), repeat=3):
        wanted = {f"t{i}": one for i, (one, _) in enumerate(picked) if one is not None}
        given = {f"t{i}": two for i, (_, two) in enumerate(picked) if two is not None}
        match = match_weights(zeros(**wanted), zeros(**given))
        for name in ("t0", "t1", "t2"):
            one, two = wanted.get(name), given.get(name)
            places = {
                "matched": one is not None and one == two,
                "missing": one is not None and two is None,
                "unexpected": one is None and two is not None,
                "reshaped": None not in (one, two) and one != two,
            }
            assert {place: name in getattr(match, place) for place in places} == places
        assert match.complete == (wanted == given)


def test_the_table_as_text():
    assert str(MATCH).splitlines() == [
        "2 of 4 tensors match, 1 missing, 1 reshaped, 1 left over",
        "           tensor     network  file",
        "missing    b.bias     4        -",
        "reshaped   c.weight   8x4      8x5",
        "left over  decoder.x  -        2x3",
    ]
    with_matched = MATCH.table(matched=True)
    assert with_matched[1:3] == ["matched    a.weight   4x1x3x3  4x1x3x3", "matched    steps      scalar   scalar"]
    assert [fault.where for fault in MATCH.faults()] == ["b.bias", "c.weight", "decoder.x"]
    whole = match_weights(zeros(a=(2,)), zeros(a=(2,)))
    assert str(whole) == "1 of 1 tensors match, 0 missing, 0 reshaped, 0 left over"


def test_names_of_the_file_are_translated_or_left_out_on_purpose():
    module = torch.nn.Linear(2, 3)
    given = {"net.w": torch.rand(3, 2), "net.b": torch.rand(3), "other": torch.rand(7)}
    names = {"net.w": "weight", "net.b": "bias"}
    match = load_strictly(module, given, where="file", rename=names.get)
    assert match.complete
    assert list(match.matched) == ["weight", "bias"]
    assert torch.equal(module.weight, given["net.w"])
    before = module.weight.clone()
    with pytest.raises(ArtifactError, match=r"2 of 2 tensors match, 0 missing, 0 reshaped, 1 left over"):
        load_strictly(module, given, where="file", rename=lambda name: names.get(name, name))
    with pytest.raises(ArtifactError, match=r"weight: comes from two tensors, net\.w and other"):
        load_strictly(module, given, where="file", rename=lambda name: "weight" if name != "net.b" else "bias")
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("key", ["", "network_weights", "state_dict", "model"])
def test_weights_are_found_in_checkpoints(tmp_path, key):
    tensors = {"a": torch.rand(2), "b": torch.arange(3)}
    torch.save({key: tensors, "epoch": 3} if key else tensors, tmp_path / "w.pth")
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_with_more_than_tensors_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Harmful(tmp_path / "harm")}, tmp_path / "w.pth")
    with pytest.raises(ArtifactError, match="Save its weights alone"):
        read_tensors(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_unreadable_files_are_artifact_errors(tmp_path, content, name):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read: "):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "found"), [({"epoch": 3, "best": {}}, "epoch, best"), ([torch.zeros(1)], "list"), ({}, "nothing")]
)
def test_a_checkpoint_without_tensors_says_what_it_holds(tmp_path, content, found):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(
        ArtifactError, match=r"Save the tensors by name, at the top or under network_weights, "
    ) as caught:
        read_tensors(tmp_path / "w.pth")
    assert caught.value.faults[0].problem == f"{tmp_path / 'w.pth'} holds no tensors, but {found}"


@pytest.mark.parametrize("case", RECORDED)
def test_names_and_shapes_are_those_of_plain_conv_unet(case):
    """Recorded from the library, with every second name its state has."""
    pool, ndim, norm = case.split()
    config = SMALL.model_copy(update={"ndim": int(ndim[0]), "norm": norm.removesuffix("Norm").lower()})
    renamed = foreign("nnunet", config, pool).renamed(UNetEncoder(config).state_dict())
    assert {name: list(tensor.shape) for name, tensor in renamed.items()} == RECORDED[case]


@pytest.mark.parametrize(("target", "depth"), [("nnunet", 3), ("monai", 5)])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_there_and_back_is_the_same_encoder(target, depth, norm):
    config = UNetConfig(width=4, depth=depth, norm=norm)
    made, other = UNetEncoder(config), UNetEncoder(config)
    theirs = foreign(target, config)
    sent = theirs.renamed(made.state_dict())
    stem = "decoder.encoder.stages.0" if target == "nnunet" else "upcat_4.convs"
    match = theirs.load(other, {**sent, f"{stem}.conv.weight": torch.zeros(9)}, where="file")
    assert len(match.matched) == len(made.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in made.state_dict().items())


def test_a_foreign_encoder_that_does_not_fit_is_told_in_full():
    config = UNetConfig(width=4, depth=2)
    theirs = foreign("nnunet", config)
    sent = theirs.renamed(UNetEncoder(config).state_dict())
    sent["encoder.stages.0.0.convs.0.conv.bias"] = torch.zeros(4)
    del sent["encoder.stages.1.1.convs.0.conv.weight"]
    encoder = UNetEncoder(config)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(ArtifactError, match="1 missing, 0 reshaped, 1 left over") as caught:
        theirs.load(encoder, sent, where="theirs.pth")
    assert [fault.where for fault in caught.value.faults] == [
        "blocks.1.conv1.weight",
        "encoder.stages.0.0.convs.0.conv.bias",
    ]
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("target", "over", "pool", "words"),
    [
        ("nnunet", {"norm": "group"}, "max", ["network.norm"]),
        ("monai", {"depth": 4}, "max", ["network.depth"]),
        ("monai", {"depth": 3, "norm": "group"}, "conv", ["network.depth", "network.width", "pool"]),
    ],
)
def test_what_cannot_be_built_there_is_refused_with_every_reason(target, over, pool, words):
    with pytest.raises(SettingsError, match=f"{target} cannot build this encoder") as caught:
        foreign(target, UNetConfig(width=4).model_copy(update=over), pool)
    assert [fault.where for fault in caught.value.faults] == words
    assert all(fault.remedy for fault in caught.value.faults)
