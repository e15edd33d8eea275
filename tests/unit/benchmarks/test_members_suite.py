"""What the suite of members times is one function computed in two ways."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from fewlabel.nets.unet import UNet, UNetConfig

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("suites.members")


@pytest.mark.parametrize("training", [True, False])
def test_one_grouped_pass_is_a_pass_of_each_network(suite, training):
    torch.manual_seed(0)
    networks = [UNet(UNetConfig(width=4, depth=3), 3).train(training) for _ in range(3)]
    joined = suite.Grouped(networks).train(training)
    images = torch.randn(2, 3, 16, 16)
    found = joined(images)
    wanted = torch.cat([network(part) for network, part in zip(networks, images.chunk(3, 1), strict=True)], 1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    # Gradients too, and each network's own.
    weight = joined.joined.encoder.blocks[0].conv1.weight
    gradient = torch.autograd.grad(found[:, 3:6].square().sum(), weight)[0]
    own = torch.autograd.grad(wanted[:, 3:6].square().sum(), networks[1].encoder.blocks[0].conv1.weight)[0]
    torch.testing.assert_close(gradient[4:8], own, rtol=1e-3, atol=1e-4)
    assert not gradient[:4].any()


def test_the_decision_shows_the_committed_row():
    row = json.loads((BENCHMARKS / "results" / "members.jsonl").read_text().splitlines()[-1])
    page = (BENCHMARKS.parent / "docs" / "decisions" / "0012-members-one-after-the-other.md").read_text()
    for kind in ("step", "prediction"):
        cells = []
        for precision in ("float32", "bf16"):
            figure = row["figures"][f"{kind} {precision}"]
            cells.append(f"{figure['ratio']:.2f} ({figure['from']:.2f} to {figure['to']:.2f})")
        assert f"| {' | '.join(cells)} |" in page


def test_the_row_holds_ratios_of_both_ways(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "ROUNDS", 1)
    monkeypatch.setattr(suite, "WIDTH", 4)
    monkeypatch.setattr(suite, "timed", lambda calls, *_: {name: [2.0, 4.0] for name in calls})
    threads = torch.get_num_threads()
    suite.run(tmp_path)
    torch.set_num_threads(threads)
    row = json.loads((tmp_path / "members.jsonl").read_text())
    assert {"step float32", "prediction float32"} <= set(row["figures"])
    assert all(figure["ratio"] == 1 for figure in row["figures"].values())
    assert "grouped over in turn" in capsys.readouterr().out
