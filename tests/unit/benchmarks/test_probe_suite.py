"""The probe suite: rows of a tiny store by the real stages, made once; what describes a cell; the printed table."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fewlabel
from fewlabel.data.store import PreparedStore
from fewlabel.nets.unet import UNetConfig, UNetDecoder, UNetEncoder
from kit.stores import make_store
from kit.tiny import pretrain_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("probe", "probe_arms", "probe_features", "probe_row", "probe_summary")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


@pytest.fixture
def tiny(suites, tmp_path, monkeypatch):
    """The suite on a few synthetic hearts, two draws, two steps."""
    prepared = make_store(tmp_path / "prepared", subjects=8, depth=4, size=(32, 32))
    arms = {
        "random": replace(suites.probe_arms.ARMS["random"], seeds=(0, 1)),
        "intensities": suites.probe_arms.ARMS["intensities"],
        "places": suites.probe_arms.ARMS["places"],
        "mae, short": suites.probe_arms.Arm(method={"name": "mae"}, steps=2),
        "mae, short, decoder": suites.probe_arms.Arm(method={"name": "mae"}, steps=2, of="mae, short"),
        "sscl": suites.probe_arms.Arm(method={"name": "sscl"}, steps=2),
    }
    monkeypatch.setattr(suites.probe_arms, "DRAWS", (0, 1))
    monkeypatch.setattr(suites.probe_arms, "FEWER", (0,))
    monkeypatch.setattr(suites.probe, "ARMS", arms)
    monkeypatch.setattr(suites.probe_row, "WIDTH", 4)
    monkeypatch.setattr(fewlabel, "prepare", lambda **settings: prepared)
    asked = []

    def pretrain(recipe, resume, **settings):
        asked.append(settings)
        data, out = settings.pop("data"), settings.pop("out")
        return importlib.import_module("fewlabel.stages.pretrain").run(pretrain_settings(data, out, **settings))

    monkeypatch.setattr(fewlabel, "pretrain", pretrain)
    return SimpleNamespace(prepared=prepared, asked=asked, work=tmp_path / "work", results=tmp_path / "results")


def rows_of(tiny):
    return [json.loads(line) for line in (tiny.results / "probe.jsonl").read_text().splitlines()]


def test_every_arm_has_a_row_for_each_seed_and_draw_made_once(suites, tiny):
    suites.probe.run(Path("data"), tiny.work, tiny.results, ["mae-short"])
    suites.probe.run(Path("data"), tiny.work, tiny.results, [])
    rows = rows_of(tiny)
    assert sorted((row["arm"], row["seed"], row["draw"]) for row in rows) == sorted(suites.probe.planned())
    assert [len(tiny.asked), tiny.asked[0]["method"], tiny.asked[1]["draw"]] == [2, {"name": "mae"}, 0]
    for row in rows:
        assert 0 <= row["neighbours"]["dice"] <= 1
        assert set(row["linear"]["dice_by_phase"]) == {"0", "1"}
        assert row["machine"]
        assert row["load_average"]
        trained = row["steps"] > 0
        assert ("pretraining" in row) == ("pretrain_machine" in row) == trained
        assert ("spread" in row) == (row["method"] not in ("intensities", "places"))
    # Nothing is left to do.
    suites.probe.run(Path("data"), tiny.work, tiny.results, [])
    assert rows_of(tiny) == rows
    assert not suites.probe_summary.unfinished(rows)
    lines = suites.probe_summary.markdown(rows)
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "`mae, short`",
        "`random`",
        "`intensities`",
        "`places`",
        "`mae, short, decoder`",
        "`sscl`",
    ]


def test_an_encoder_that_has_met_scored_patients_is_refused(suites, tiny, monkeypatch):
    store = PreparedStore(tiny.prepared)
    suites.probe.run(Path("data"), tiny.work, tiny.results, ["mae-short"])
    folder, arm = tiny.work / "probe" / "mae-short-s0", suites.probe.ARMS["mae, short"]
    assert suites.probe_row.described(arm, store, folder, 0)[1] is not None
    patient = suites.probe_row.scored(store)[0]
    monkeypatch.setattr(suites.probe_row, "images_of", lambda encoder: {patient, "another"})
    with pytest.raises(ValueError, match=f"who are scored: {patient}$"):
        suites.probe_row.described(arm, store, folder, 0)


def test_an_unknown_arm_is_answered_with_the_known_ones(suites):
    with pytest.raises(SystemExit, match=r"no arm gcll.*gcl-wide-centre"):
        suites.probe.wanted(["gcll"])
    assert suites.probe.wanted(["gcl-2000-steps", "mae"]) == ["mae", "gcl, 2000 steps"]


def test_cells_are_described_by_the_pixels_about_their_middle(suites):
    images = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    found = suites.probe_features.of_intensities().features(images, torch.zeros(2))
    assert found.shape == (2, 81, 4, 6)
    # The cell in row 1, column 2 is about pixel (6, 10).
    assert torch.equal(found[:, :, 1, 2], images[:, 0, 2:11, 6:15].flatten(1))
    places = suites.probe_features.of_places().features(images, torch.tensor([0.2, 0.7]))
    assert places[1, :, 3, 0].tolist() == pytest.approx([1, 0, 0.7])


def test_levels_of_an_encoder_are_averaged_or_enlarged_to_cells(suites):
    encoder = UNetEncoder(UNetConfig(width=4, depth=4)).eval()
    images = torch.randn(1, 1, 32, 32)
    description = suites.probe_features.of_encoder(encoder)
    found = description.features(images, torch.zeros(1))
    assert found.shape == (1, sum(description.sizes), 8, 8)
    maps = encoder(images)
    torch.testing.assert_close(found[0, :8, 0, 0], maps[1][0, :, :2, :2].mean(dim=(1, 2)))
    torch.testing.assert_close(found[0, 8:24], maps[2][0])
    decoder = UNetDecoder(encoder.config).eval()
    whole = suites.probe_features.of_network(encoder, decoder)
    both = whole.features(images, torch.zeros(1))
    assert both.shape[1] == sum(whole.sizes)
    assert torch.equal(both[:, : found.shape[1]], found)
    torch.testing.assert_close(both[0, -4:, 0, 0], decoder(maps)[-1][0, :, :4, :4].mean(dim=(1, 2)))


def test_quarter_turns_of_a_slice_and_its_mask_are_exact(suites):
    images = torch.arange(64.0).view(1, 1, 8, 8)
    labels = (torch.arange(64) % 5).to(torch.uint8).view(1, 8, 8)
    shown, told = suites.probe_features.turned(images, labels, 4)
    for turn in range(4):
        torch.testing.assert_close(shown[turn, 0], images[0, 0].rot90(turn), rtol=0, atol=1e-3)
        assert torch.equal(told[turn], labels[0].rot90(turn))
    # An eighth of a turn brings corners in from outside.
    corners = suites.probe_features.turned(images, labels, 8)[1][1][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()


def test_gains_are_over_random_weights_on_the_same_draws_and_seeds_count_once(suites):
    def row(arm, seed, draw, dice):
        slices = {"spread": 0.5, "effective_rank": 3.0, "purity": {"position": {"purity": 0.4, "chance": 0.25}}}
        told = {"neighbours": {"dice": 1 - dice}, "linear": {"dice": dice}}
        return {"arm": arm, "seed": seed, "draw": draw, "steps": 500 * (arm != "random"), **told, **slices}

    table = [row("random", seed, draw, 0.2 + 0.1 * seed + 0.1 * draw) for seed in (0, 1) for draw in (0, 1)]
    table += [row("gcl", 0, 0, 0.35), row("gcl", 0, 1, 0.55), row("moco", 0, 0, 0.15)]
    _, _, random, gcl, moco = suites.probe_summary.markdown(table)
    assert random == "| `random` |  | 2 | 0.700 | 0.300 |  | 0.500 | 3.0 | 0.40 (0.25) |"
    # Means of random weights .25 and .35: gains .1 and .2, standard error .05, t(1) = 12.71.
    assert "| 500 | 2 | 0.550 | 0.450 | +0.150 (-0.485 to +0.785) |" in gcl
    assert "-0.100 (one draw)" in moco
