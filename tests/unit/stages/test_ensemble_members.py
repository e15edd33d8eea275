"""Seeds and folders of an ensemble's members, and whose finished member is taken for one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError
from fewlabel.engine.weight_files import load_members, load_segmenter, save_segmenter_facts
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages.finetune.ensemble_members import Members, member_seed

CONFIG = UNetConfig(width=4, depth=2)


def test_seeds_are_the_runs_own_and_then_others_that_no_run_of_a_small_seed_shares() -> None:
    assert [member_seed(seed, 0) for seed in (0, 7)] == [0, 7]
    seeds = [member_seed(seed, member) for seed in range(5) for member in range(4)]
    assert len(set(seeds)) == 20
    assert all(seed > 1000 for seed in set(seeds) - set(range(5)))
    assert member_seed(3, 2) == member_seed(3, 2)


def test_the_first_member_lies_where_one_network_does(tmp_path: Path) -> None:
    members = Members(tmp_path, 3, {"seed": 0})
    assert [members.folder(member) for member in range(3)] == [tmp_path, tmp_path / "member-1", tmp_path / "member-2"]
    assert members.files() == [
        "segmenter.safetensors",
        "metrics.jsonl",
        "member-1/segmenter.safetensors",
        "member-1/metrics.jsonl",
        "member-2/segmenter.safetensors",
        "member-2/metrics.jsonl",
    ]
    assert Members(Path(), 1, {}).folder(0) == Path()
    assert members.title("finetune", 1) == "finetune, network 2 of 3"
    assert Members(tmp_path, 1, {}).title("finetune", 0) == "finetune"


def test_a_member_is_finished_once_it_is_kept_and_only_for_its_own_run(tmp_path: Path) -> None:
    members = Members(tmp_path, 2, {"seed": 0, "steps": 5})
    networks = [UNet(CONFIG, 2), UNet(CONFIG, 2)]
    assert not any(map(members.finished, range(2)))
    members.finish(0, networks[0], None)
    assert [members.finished(member) for member in range(2)] == [True, False]
    members.finish(1, networks[1], 4, outcome={"returns": 1})
    assert all(map(members.finished, range(2)))
    assert members.best_steps() == [None, 4]
    assert members.outcomes() == [{}, {"returns": 1}]
    assert not any(map(Members(tmp_path, 2, {"seed": 1, "steps": 5}).finished, range(2)))
    save_segmenter_facts(tmp_path, CONFIG, 2, {"members": 2})
    loaded, facts = load_members(tmp_path)
    assert facts["members"] == 2
    for network, again in zip(networks, loaded, strict=True):
        assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    assert torch.equal(load_segmenter(tmp_path, 1)[0].classifier.weight, networks[1].classifier.weight)
    (tmp_path / "member-1" / "segmenter.safetensors").unlink()
    assert not members.finished(1)
    members.clean()
    assert not members.finished(0)
    members.clean()


def test_a_mark_of_something_else_is_no_mark(tmp_path: Path) -> None:
    members = Members(tmp_path, 1, {"seed": 0})
    members.finish(0, UNet(CONFIG, 2), None)
    write_sealed(tmp_path / "member.json", {"best_step": 3})
    assert not members.finished(0)


@pytest.mark.parametrize("name", ["member.json", "segmenter.safetensors"])
def test_a_damaged_member_is_named(tmp_path: Path, name: str) -> None:
    members = Members(tmp_path, 1, {"seed": 0})
    members.finish(0, UNet(CONFIG, 2), None)
    content = bytearray((tmp_path / name).read_bytes())
    content[-20] ^= 1
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=rf"{name} .*network is trained again"):
        members.finished(0)
