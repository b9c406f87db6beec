"""Ranks in threads: failures, deadlocks and missing peers become errors, at once."""

import time

import pytest
import torch
from emitted import run_contexts

from superscaler.runtime import run_ranks_in_threads
from superscaler.runtime.failures import CommunicationError


def test_results_come_in_rank_order():
    assert run_ranks_in_threads(4, lambda rank, _: rank * rank) == [0, 1, 4, 9]


def test_a_failing_rank_ends_the_others_and_its_error_is_raised():
    def main(rank, ctx):
        if rank == 1:
            raise ValueError("mine")
        ctx.wait(ctx.all_reduce(torch.ones(2), "g"))

    start = time.perf_counter()
    with pytest.raises(ValueError, match="mine"):
        run_contexts(3, main, {"g": (0, 1, 2)})
    assert time.perf_counter() - start < 2


def test_a_cycle_of_receives_is_a_deadlock_found_at_once():
    def main(rank, ctx):
        ctx.wait(ctx.recv("peer", (2,), torch.float32))
        ctx.send(torch.ones(2), "peer")

    start = time.perf_counter()
    with pytest.raises(CommunicationError) as caught:
        run_contexts(2, main, lambda rank: {"peer": 1 - rank}, timeout=60)
    assert time.perf_counter() - start < 2
    assert "rank 0 is in receive of message 0, float32[2], from rank 1" in str(caught.value)
    assert "rank 1 is in receive of message 0, float32[2], from rank 0" in str(caught.value)


def test_a_rank_that_never_comes_is_named():
    def main(rank, ctx):
        if rank != 1:
            ctx.wait(ctx.all_reduce(torch.ones(2), "g"))

    with pytest.raises(CommunicationError) as caught:
        run_contexts(3, main, {"g": (0, 1, 2)})
    assert "all_reduce sum of float32[2] over ranks [0, 1, 2]: rank 1 did not" in str(caught.value)
    assert "rank 1 has finished" in str(caught.value)


def test_waiting_for_a_slow_rank_ends_with_the_timeout():
    def main(rank, ctx):
        if rank:
            time.sleep(0.5)
        else:
            ctx.wait(ctx.recv("peer", (2,), torch.float32))

    with pytest.raises(CommunicationError, match=r"rank 0 waited 0.1 s in receive .* from rank 1"):
        run_contexts(2, main, lambda rank: {"peer": 1 - rank}, timeout=0.1)


def test_collectives_in_another_order_are_a_mismatch():
    def main(rank, ctx):
        for size in (2, 3) if rank else (3, 2):
            ctx.wait(ctx.all_reduce(torch.ones(size), "g"))

    with pytest.raises(CommunicationError, match="collective 0 of ranks"):
        run_contexts(2, main, {"g": (0, 1)})


def test_a_message_of_another_shape_is_an_error():
    def main(rank, ctx):
        if rank:
            ctx.send(torch.ones(3), "peer")
        else:
            ctx.wait(ctx.recv("peer", (2,), torch.float32))

    with pytest.raises(CommunicationError, match=r"is float32\[3\], expected was float32\[2\]"):
        run_contexts(2, main, lambda rank: {"peer": 1 - rank})


def test_a_message_that_nobody_receives_is_an_error():
    def main(rank, ctx):
        if rank:
            ctx.send(torch.ones(3), "peer")

    with pytest.raises(CommunicationError, match="rank 1 sent rank 0 1 message"):
        run_contexts(2, main, lambda rank: {"peer": 1 - rank})


def test_thousands_of_tiny_runs_are_cheap():
    start = time.perf_counter()
    for _ in range(200):
        run_contexts(4, _reduce, {"g": (0, 1, 2, 3)})
    assert time.perf_counter() - start < 10  # 0.2 s on an idle machine


def _reduce(rank, ctx):
    return ctx.wait(ctx.all_reduce(torch.ones(2), "g"))
