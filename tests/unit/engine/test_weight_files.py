"""Weights come back as they were, or not at all."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from fewlabel.core.errors import ArtifactError
from fewlabel.engine.weight_files import (
    load_decoder_into,
    load_encoder,
    load_encoder_into,
    load_segmenter,
    load_strictly,
    save_encoder,
    save_segmenter,
)
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder

CONFIG = UNetConfig(width=4, depth=3, in_channels=2, slope=0.1)


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build()
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return module


def equal(one, two):
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_segmenter_round_trip(tmp_path):
    network = seeded(lambda: UNet(CONFIG, 3)).to(memory_format=torch.channels_last).train()
    save_segmenter(tmp_path, network, {"label_names": {"0": "background"}, "classes": "overwritten"})
    loaded, facts = load_segmenter(tmp_path)
    assert equal(network, loaded)
    assert not loaded.training
    assert facts == {"label_names": {"0": "background"}, "architecture": CONFIG.record(), "classes": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segmenter.json", "segmenter.safetensors"]


def test_encoder_round_trip_and_into_a_network(tmp_path):
    encoder = seeded(lambda: UNetEncoder(CONFIG))
    save_encoder(tmp_path, encoder, {"method": "gcl"})
    loaded, facts = load_encoder(tmp_path)
    assert equal(encoder, loaded)
    assert facts == {"method": "gcl", "architecture": CONFIG.record(), "decoder_blocks": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]
    network = seeded(lambda: UNet(CONFIG, 3), seed=1)
    before = {key: tensor.clone() for key, tensor in network.decoder.state_dict().items()}
    assert load_encoder_into(tmp_path, network.encoder) == facts
    assert equal(network.encoder, encoder)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.decoder.state_dict().items())


def copied(module):
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize("blocks", [1, 2])
def test_pretrained_decoder_blocks_go_to_the_first_blocks_of_a_decoder(tmp_path, blocks):
    encoder, decoder = seeded(lambda: UNetEncoder(CONFIG)), seeded(lambda: UNetDecoder(CONFIG, blocks), seed=2)
    save_encoder(tmp_path, encoder, {"decoder_blocks": "overwritten"}, decoder.to(memory_format=torch.channels_last))
    assert load_encoder(tmp_path)[1]["decoder_blocks"] == blocks
    assert (tmp_path / "decoder.safetensors").is_file()
    whole = seeded(lambda: UNetDecoder(CONFIG), seed=1)
    before = copied(whole)
    assert load_decoder_into(tmp_path, whole) == blocks
    left, after = decoder.state_dict(), whole.state_dict()
    assert {key.split(".")[1] for key in left} == {str(block) for block in range(blocks)}
    for key, tensor in after.items():
        assert torch.equal(tensor, left[key] if key in left else before[key]), key
    assert not torch.equal(before["ups.0.weight"], after["ups.0.weight"])


def test_an_encoder_without_decoder_blocks_leaves_a_decoder_as_it_is(tmp_path):
    save_encoder(tmp_path, UNetEncoder(CONFIG), {})
    decoder = seeded(lambda: UNetDecoder(CONFIG))
    before = copied(decoder)
    assert load_decoder_into(tmp_path, decoder) == 0
    # Folders of earlier versions do not count blocks.
    facts = json.loads((tmp_path / "encoder.json").read_text())
    del facts["decoder_blocks"]
    (tmp_path / "encoder.json").write_text(json.dumps(facts))
    assert load_decoder_into(tmp_path, decoder) == 0
    assert all(torch.equal(before[key], tensor) for key, tensor in decoder.state_dict().items())


def test_decoder_blocks_that_do_not_fit_change_nothing(tmp_path):
    save_encoder(tmp_path, UNetEncoder(CONFIG), {}, seeded(lambda: UNetDecoder(CONFIG), seed=1))
    for wrong in (UNetDecoder(CONFIG.model_copy(update={"width": 8})), UNetDecoder(CONFIG, 1)):
        before = copied(wrong)
        with pytest.raises(ArtifactError, match=r"decoder\.safetensors do not fit the network"):
            load_decoder_into(tmp_path, wrong)
        assert all(torch.equal(before[key], tensor) for key, tensor in wrong.state_dict().items())
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"safetensors cannot be read: "):
        load_decoder_into(tmp_path, UNetDecoder(CONFIG))


@pytest.mark.parametrize(("key", "made", "other"), [("norm", "instance", "group"), ("slope", 0.1, 0.0)])
def test_what_tensors_do_not_tell_is_compared_too(tmp_path, key, made, other):
    save_encoder(tmp_path, UNetEncoder(CONFIG.model_copy(update={key: made})), {})
    encoder = seeded(lambda: UNetEncoder(CONFIG.model_copy(update={key: other})))
    before = copied(encoder)
    with pytest.raises(ArtifactError, match=rf"network\.{key}: is {other}, but the encoder has {made}"):
        load_encoder_into(tmp_path, encoder)
    assert all(torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items())


def test_a_misfit_is_listed_and_changes_nothing():
    encoder = seeded(lambda: UNetEncoder(CONFIG))
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    tensors = {key: tensor + 1 for key, tensor in encoder.state_dict().items()}
    del tensors["blocks.0.conv1.weight"]
    tensors["blocks.1.norm1.weight"] = torch.zeros(5)
    tensors["blocks.9.extra"] = torch.zeros(2, 3)
    with pytest.raises(ArtifactError) as caught:
        load_strictly(encoder, tensors, where="file")
    text = str(caught.value)
    total = len(before)
    assert f"{total - 2} of {total} tensors match, 1 missing, 1 reshaped, 1 left over" in text
    assert "blocks.0.conv1.weight: is missing, and must have shape (4, 2, 3, 3)" in text
    assert "blocks.1.norm1.weight: must have shape (8,), not (5,)" in text
    assert "blocks.9.extra: of shape (2, 3) is not in the network" in text
    assert all(torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items())


def test_another_architecture_is_refused_with_a_short_table(tmp_path):
    save_encoder(tmp_path, UNetEncoder(CONFIG), {})
    with pytest.raises(ArtifactError, match="6 of 36 tensors match, 0 missing, 30 reshaped") as caught:
        load_encoder_into(tmp_path, UNetEncoder(CONFIG.model_copy(update={"width": 8})))
    assert caught.value.exit_code == 3
    assert len(caught.value.faults) == 12


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_damaged_weight_file_is_an_artifact_error(tmp_path, content):
    save_segmenter(tmp_path, UNet(CONFIG, 2), {})
    (tmp_path / "segmenter.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"safetensors cannot be read: "):
        load_segmenter(tmp_path)


def test_missing_files_and_facts(tmp_path):
    with pytest.raises(ArtifactError):
        load_encoder(tmp_path)
    save_encoder(tmp_path, UNetEncoder(CONFIG), {})
    (tmp_path / "encoder.safetensors").unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"encoder\.json lacks architecture"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({"architecture": {"width": 4, "wings": 2}}))
    with pytest.raises(ArtifactError, match="wings"):
        load_encoder(tmp_path)


def test_files_hold_plain_tensors(tmp_path):
    """Readable by safetensors alone, in contiguous layout, with every buffer."""
    encoder = UNetEncoder(CONFIG).to(memory_format=torch.channels_last)
    save_encoder(tmp_path, encoder, {})
    tensors = safetensors.torch.load_file(tmp_path / "encoder.safetensors")
    assert set(tensors) == set(encoder.state_dict())
    assert all(tensor.is_contiguous() for tensor in tensors.values())
