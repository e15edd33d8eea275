"""Collectives: the identity alone, and over two processes what the joined batch would give."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fewlabel.core import collective


def test_alone_every_collective_is_the_identity() -> None:
    tensor = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert collective.world_size() == 1
    assert collective.rank() == 0
    assert collective.gather(tensor) is tensor
    assert collective.sum_across(tensor) is tensor
    gradient = torch.ones(3)
    collective.average_gradients([gradient])
    assert torch.equal(gradient, torch.ones(3))
    assert collective.mean_across({"a": 1.5}) == {"a": 1.5}
    assert collective.any_rank(True) is True
    assert collective.any_rank(False) is False
    collective.barrier()


def pairwise(rows: Tensor, weight: Tensor, everyone: Tensor) -> Tensor:
    """A loss whose anchors are ``rows`` and whose others are ``everyone``, like a contrastive one."""
    return torch.logsumexp((rows * weight) @ (everyone * weight).T, dim=1).mean()


TURN = torch.arange(20.0, dtype=torch.float64).reshape(4, 5)


def figures(found: dict[str, float]) -> Tensor:
    return torch.tensor([found["both"], found["second"], len(found)])


def two_processes(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    joined = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)
    mine = joined[4 * rank : 4 * rank + 4]
    weight = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64, requires_grad=True)
    embedded = mine * weight
    everyone = collective.gather(embedded)
    loss = torch.logsumexp(embedded @ everyone.T, dim=1).mean()
    gradient = torch.autograd.grad(loss, weight)[0]
    mixed = [gradient, torch.full((2, 2), float(rank), dtype=torch.float32)]
    collective.average_gradients(mixed)
    # The gradient of a transpose reaches the collective transposed in memory.
    turned = torch.autograd.grad((collective.gather(weight.expand(2, 3)).T @ TURN).sum(), weight)[0]
    summed = collective.gather(mine * weight).sum(dim=0)
    shared = [torch.autograd.grad((rank + 1) * summed.square().sum() / 2, weight)[0]]
    collective.average_gradients(shared)
    point = torch.tensor([float(rank + 1)], requires_grad=True)
    total = collective.sum_across(point)
    (total * (rank + 1)).sum().backward()
    facts = {
        "loss": collective.sum_across(loss.detach()) / 2,
        "gradient": mixed[0],
        "other": mixed[1],
        "turned": turned,
        "shared": shared[0],
        "gathered": everyone.detach(),
        "numbers": collective.gather(torch.tensor([rank, 7])),
        "total": total.detach(),
        "point": point.grad,
        "any": torch.tensor([collective.any_rank(rank == 1), collective.any_rank(False)]),
        "figures": figures(collective.mean_across({"both": 1.0 + rank, **({"second": 5.0} if rank else {})})),
        "size": torch.tensor([collective.world_size(), collective.rank()]),
    }
    collective.barrier()
    torch.save(facts, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_processes, args=(port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_loss_and_gradient_equal_those_of_the_joined_batch(both: list[dict[str, Tensor]]) -> None:
    joined = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)
    weight = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64, requires_grad=True)
    loss = pairwise(joined, weight, joined)
    loss.backward()
    for facts in both:
        torch.testing.assert_close(facts["gathered"], (joined * weight).detach(), rtol=0, atol=0)
        torch.testing.assert_close(facts["loss"], loss.detach())
        torch.testing.assert_close(facts["gradient"], weight.grad)


def test_gradients_of_other_types_are_averaged_too(both: list[dict[str, Tensor]]) -> None:
    for facts in both:
        assert torch.equal(facts["other"], torch.full((2, 2), 0.5))


def test_gradients_arrive_unscrambled_from_transposed_memory(both: list[dict[str, Tensor]]) -> None:
    # Row i of the joined 4 rows meets row i of TURN; rank r holds rows 2r and 2r + 1; both ranks send alike.
    rows = TURN.sum(dim=1)
    for rank, facts in enumerate(both):
        expected = 2 * rows[2 * rank : 2 * rank + 2].sum()
        torch.testing.assert_close(facts["turned"], expected.expand(3))


def test_gradients_through_gather_have_their_closed_form_and_are_the_same_everywhere(
    both: list[dict[str, Tensor]],
) -> None:
    # With S = w * sum(x), ranks hold 1/2 |S|^2 and |S|^2: the gradient of their mean is 1.5 * w * sum(x)^2.
    rows = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)
    expected = 1.5 * torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64) * rows.sum(dim=0).square()
    for facts in both:
        torch.testing.assert_close(facts["shared"], expected)
    assert torch.equal(both[0]["shared"], both[1]["shared"])


def test_sums_flags_and_ranks(both: list[dict[str, Tensor]]) -> None:
    for rank, facts in enumerate(both):
        assert facts["total"].item() == 3.0
        # The sum over ranks of total * (rank + 1) has slope 1 + 2 in each rank's point.
        assert facts["point"].item() == 3.0
        assert facts["numbers"].tolist() == [0, 7, 1, 7]
        assert facts["any"].tolist() == [True, False]
        assert facts["size"].tolist() == [2, rank]
        # A figure that one rank alone has is that rank's.
        assert facts["figures"].tolist() == [1.5, 5.0, 2]
