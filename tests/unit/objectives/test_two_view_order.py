import torch

from fewlabel.objectives import two_view_order


def test_one_process_keeps_rows_as_they_are():
    rows = torch.randn(6, 3, requires_grad=True)
    assert two_view_order.join_views(rows) is rows
    assert two_view_order.own_rows(3).tolist() == [0, 1, 2, 3, 4, 5]


def test_rows_of_several_ranks_are_slices_in_rank_order_within_each_view(monkeypatch):
    # Rank r holds slices 2r and 2r+1; the value of a row is 10·view + slice.
    local = {r: torch.tensor([2 * r, 2 * r + 1, 10 + 2 * r, 11 + 2 * r]).float() for r in range(3)}
    monkeypatch.setattr(two_view_order, "world_size", lambda: 3)

    def gather(rows):
        return torch.cat([local[r].view(2, -1).transpose(0, 1) for r in range(3)])

    monkeypatch.setattr(two_view_order, "gather", gather)
    for r in range(3):
        monkeypatch.setattr(two_view_order, "rank", lambda r=r: r)
        joined = two_view_order.join_views(local[r])
        assert joined.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
        assert torch.equal(joined[two_view_order.own_rows(2)], local[r])
