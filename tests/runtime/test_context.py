"""Every primitive against the same computation on whole tensors, ranks being threads."""

import pytest
import torch
from emitted import run_contexts

from superscaler.runtime.pending import resolve

N = 3
RANKS = tuple(range(N))


def stacked(shape):
    return torch.arange(float(N * torch.Size(shape).numel())).reshape(N, *shape)


@pytest.mark.parametrize("op", ["sum", "max"])
def test_all_reduce_leaves_its_input_alone(op):
    x = stacked((2, 3))

    def main(rank, ctx):
        mine = x[rank].clone()
        result = ctx.wait(ctx.all_reduce(mine, "g", op))
        assert torch.equal(mine, x[rank])
        return result

    expected = x.sum(0) if op == "sum" else x.amax(0)
    for result in run_contexts(N, main, {"g": RANKS}):
        assert torch.equal(result, expected)


def test_all_gather_along_an_inner_factor():
    x = stacked((2, 2 * 4))  # every rank has (2, (2, 4)) of (2, (2, 3 * 4))

    def main(rank, ctx):
        return ctx.wait(ctx.all_gather(x[rank], "g", (2, 2, 4), 2, (2, 24)))

    expected = torch.cat([part.reshape(2, 2, 4) for part in x], dim=2).reshape(2, 24)
    for result in run_contexts(N, main, {"g": RANKS}):
        assert torch.equal(result, expected)


def test_reduce_scatter_along_an_inner_factor():
    x = stacked((2, 12))

    def main(rank, ctx):
        return ctx.wait(ctx.reduce_scatter(x[rank], "g", (2, 2, 6), 2, (2, 4)))

    expected = x.sum(0).reshape(2, 2, 6).chunk(N, dim=2)
    for rank, result in enumerate(run_contexts(N, main, {"g": RANKS})):
        assert torch.equal(result, expected[rank].reshape(2, 4))


def test_all_to_all_moves_a_split_from_one_factor_to_another():
    whole = torch.randn(6, 9)  # split by columns before, by rows after

    def main(rank, ctx):
        mine = whole[:, 3 * rank : 3 * rank + 3]
        return ctx.wait(ctx.all_to_all(mine, "g", (6, 3), 0, 1, (2, 9)))

    for rank, result in enumerate(run_contexts(N, main, {"g": RANKS})):
        assert torch.equal(result, whole[2 * rank : 2 * rank + 2])


def test_chunk_and_take_are_local():
    x = torch.arange(24.0).reshape(2, 12)

    def main(rank, ctx):
        return (
            ctx.chunk(x, (2, 2, 6), 2, "i", N, (2, 4)),
            ctx.chunk(x, (2, 2, 6), 2, ctx["i"], N, (2, 4)),
            ctx.take(x, (2, 2, 6), ((0, 2), (1, 2), (2, 5)), (2, 3)),
        )

    def constants(rank):
        return {"i": rank}

    for rank, (a, b, c) in enumerate(run_contexts(N, main, constants)):
        expected = x.reshape(2, 2, 6)[:, :, 2 * rank : 2 * rank + 2].reshape(2, 4)
        assert torch.equal(a, expected)
        assert torch.equal(b, expected)
        assert torch.equal(c, x.reshape(2, 2, 6)[:, 1, 2:5])


def test_send_and_receive_match_in_order_also_to_oneself():
    def main(rank, ctx):
        for i in range(3):
            ctx.send(torch.full((2,), 10.0 * rank + i), "next")
        got = [ctx.recv("previous", (2,), torch.float32) for _ in range(3)]
        ctx.send(torch.tensor([5.0]), "self")
        own = ctx.recv("self", (1,), torch.float32)
        return [resolve(x)[0].item() for x in [*got, own]]

    def constants(rank):
        return {"next": (rank + 1) % N, "previous": (rank - 1) % N, "self": rank}

    results = run_contexts(N, main, constants)
    for rank, result in enumerate(results):
        sender = (rank - 1) % N
        assert result == [10.0 * sender, 10.0 * sender + 1, 10.0 * sender + 2, 5.0]


def test_broadcast_from_the_second_of_a_group():
    x = torch.randn(4)

    def main(rank, ctx):
        return ctx.wait(ctx.broadcast(x if rank == 2 else None, "g", 1, (4,), torch.float32))

    results = run_contexts(N, lambda r, ctx: main(r, ctx) if r else None, {"g": (1, 2)})
    assert torch.equal(results[1], x)
    assert torch.equal(results[2], x)


def test_parts_of_a_message_can_be_read_as_complex_numbers():
    def main(rank, ctx):
        odd, pairs = torch.ones(3), torch.arange(8.0).view(4, 2)
        ctx.send_coalesced([odd, pairs], "next")
        _, came = ctx.recv_coalesced("previous", ((3,), (4, 2)), torch.float32)
        _, total = ctx.all_reduce_coalesced([odd, pairs], "g")
        return [torch.view_as_complex(ctx.wait(x)) for x in (came, total)]

    expected = torch.view_as_complex(torch.arange(8.0).view(4, 2))

    def constants(rank):
        return {"g": RANKS, "next": (rank + 1) % N, "previous": (rank - 1) % N}

    for came, total in run_contexts(N, main, constants):
        assert torch.equal(came, expected)
        assert torch.equal(total, N * expected)


def test_coalesced_collectives_equal_single_ones():
    torch.manual_seed(0)
    a, b = torch.randn(N, 4), torch.randn(N, 2, 3 * N)

    def main(rank, ctx):
        reduced = ctx.all_reduce_coalesced([a[rank], b[rank]], "g")
        scattered = ctx.reduce_scatter_coalesced(
            [(a[rank][:3], (3,), 0, (1,)), (b[rank], (2, 9), 1, (2, 3))], "g"
        )
        gathered = ctx.all_gather_coalesced(
            [(a[rank], (4,), 0, (12,)), (b[rank], (2, 9), 1, (2, 27))], "g"
        )
        return [[resolve(x) for x in xs] for xs in (reduced, scattered, gathered)]

    for rank, (reduced, scattered, gathered) in enumerate(run_contexts(N, main, {"g": RANKS})):
        torch.testing.assert_close(reduced, [a.sum(0), b.sum(0)])
        expected = [a.sum(0)[rank : rank + 1], b.sum(0)[:, 3 * rank : 3 * rank + 3]]
        torch.testing.assert_close(scattered, expected)
        assert torch.equal(gathered[0], a.reshape(-1))
        assert torch.equal(gathered[1], torch.cat(list(b), dim=1))


def test_exchange_of_uneven_parts():
    """Rows 0-4 and 5-6 of seven become columns 0-0, 1-3, 4-4 of five on three ranks."""
    x = torch.arange(35.0).reshape(7, 5)
    rows, columns = [(0, 5), (5, 7), None], [(0, 1), (1, 4), (4, 5)]

    def spec(rank):
        mine = rows[rank]
        height = mine[1] - mine[0] if mine else 0
        local = [((), ((0, height), columns[rank]), (mine, (0, _len(columns[rank]))), False)]
        return {
            "slots": (height, 5) if mine else None,
            "out": (7, _len(columns[rank])),
            "local": local if mine else [],
            "send": [((), ((0, height), columns[to]), to) for to in RANKS if mine and to != rank],
            "recv": [
                (frm, (rows[frm], (0, _len(columns[rank]))), False) for frm in (0, 1) if frm != rank
            ],
        }

    def main(rank, ctx):
        parts = {(): x[slice(*rows[rank])]} if rows[rank] else {}
        shape = (7, _len(columns[rank]))
        return ctx.wait(ctx.exchange(parts, "e", shape, torch.float32))

    for rank, result in enumerate(run_contexts(N, main, lambda rank: {"e": spec(rank)})):
        assert torch.equal(result, x[:, slice(*columns[rank])])


@pytest.mark.parametrize("add", [True, "max"])
def test_exchange_reduces_partial_values_whatever_their_order(add):
    x = torch.randn(2, 4)
    box = ((0, 4),)
    spec = {
        0: {"slots": (4,), "out": None, "send": [((0,), box, 1)]},
        1: {
            "slots": {(1,): (4,)},
            "out": (4,),
            "local": [((1,), box, box, add)],
            "recv": [(0, box, False)],
        },
    }

    def main(rank, ctx):
        return ctx.wait(ctx.exchange({(rank,): x[rank]}, "e", (2, 2), torch.float32))

    nothing, result = run_contexts(2, main, lambda rank: {"e": spec[rank]})
    assert nothing is None
    expected = x[0] + x[1] if add is True else torch.maximum(x[0], x[1])
    assert torch.equal(result, expected.reshape(2, 2))


def test_constants_may_depend_on_the_time_index():
    def main(rank, ctx):
        ctx.time = (1,)
        return ctx["i"], ctx["spec"]

    constants = {"i": {(0,): "a", (1,): "b"}, "spec": {"local": []}}
    assert run_contexts(1, main, constants) == [("b", {"local": []})]


def _len(interval):
    return interval[1] - interval[0]
