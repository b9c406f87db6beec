"""Gloo processes do exactly what ranks in threads do."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from emitted import free_port, linear_program, run_contexts

from superscaler.runtime import RankExecutor, load_ranks, run_ranks_in_threads
from superscaler.runtime.context import Context
from superscaler.runtime.layout import full_state_dict
from superscaler.runtime.pending import resolve
from superscaler.runtime.processes import ProcessCommunicator, destroy_groups

pytestmark = pytest.mark.dist

N = 3
GROUPS = [[0, 1, 2], [0, 2]]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.complex64]


def constants(rank):
    return {
        "all": (0, 1, 2),
        "outer": (0, 2),
        "next": (rank + 1) % N,
        "previous": (rank - 1) % N,
        "exchange": {
            "slots": (4, 3),
            "out": (4, 3),
            "local": [((), ((0, 1), (0, 3)), ((0, 1), (0, 3)), False)],
            "send": [
                ((), ((1, 4), (0, 2)), (rank + 1) % N),
                ((), ((1, 4), (2, 3)), (rank - 1) % N),
                ((), ((0, 4), (0, 3)), (rank + 1) % N),
            ],
            "recv": [
                ((rank - 1) % N, ((1, 4), (0, 2)), False),
                ((rank + 1) % N, ((1, 4), (2, 3)), False),
                ((rank - 1) % N, ((0, 4), (0, 3)), True),
            ],
        },
    }


def primitives(rank, ctx):
    """Every primitive, most of them started before any is waited for."""
    generator = torch.Generator().manual_seed(rank)
    results = []
    for dtype in DTYPES:
        x = (torch.randn(4, 6, generator=generator) * 10).to(dtype)
        x = x + 2j * x.flip(0) if dtype.is_complex else x
        for op in ("sum",) if dtype.is_complex else ("sum", "max"):
            results.append(ctx.all_reduce(x, "all", op))
            results.append(ctx.reduce_scatter(x, "all", (4, 2, 3), 2, (4, 2), op))
        results.append(ctx.all_gather(x, "all", (4, 2, 3), 1, (4, 18)))
        results.append(ctx.all_to_all(x, "all", (4, 6), 1, 0, (12, 2)))
        results.append(ctx.broadcast(x if rank == 1 else None, "all", 1, (4, 6), dtype))
        if rank != 1:
            results.append(ctx.all_reduce(x, "outer"))
            results += ctx.all_reduce_coalesced([x, x + 1], "outer")
            results += ctx.reduce_scatter_coalesced([(x, (4, 6), 0, (2, 6))], "outer")
            results += ctx.all_gather_coalesced([(x, (4, 6), 1, (4, 12))], "outer")
        for piece in (x, x + 1):
            ctx.send(piece, "next")
        results += [ctx.recv("previous", (4, 6), dtype) for _ in range(2)]
        large = x.repeat(3 << 15, 1)[:, :4]  # on Gloo these go point to point
        shape = tuple(large.shape)
        gathered = ctx.all_gather(large, "all", shape, 0, (N * shape[0], 4))
        results.append(resolve(gathered)[:: shape[0] - 1])
        part = (shape[0] // N, 4)
        reduced = ctx.reduce_scatter(large, "all", shape, 0, part)
        results.append(resolve(reduced)[:: part[0] - 1])
        results.append(ctx.exchange({(): x[:, :3]}, "exchange", (4, 3), dtype))
    return [resolve(result) for result in results]


def start(rank, world_size, port, function, queue):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", address, rank=rank, world_size=world_size)
    communicator = ProcessCommunicator(GROUPS if world_size == N else [])
    queue.put((rank, function(rank, communicator)))
    communicator.close()
    destroy_groups()


def run_in_processes(world_size, function):
    queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
    arguments = (world_size, free_port(), function, queue)
    context = torch.multiprocessing.spawn(start, arguments, world_size, join=False)
    results = dict(queue.get() for _ in range(world_size))
    while not context.join():
        pass
    return [results[rank] for rank in range(world_size)]


def run_primitives(rank, communicator):
    results = primitives(rank, Context(constants(rank), communicator))
    return [x.double().numpy() for x in results]


def run_training(rank, communicator):
    """Three steps of the linear program over as many ranks as there are."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    program = load_ranks(linear_program(communicator.world_size))[rank]
    executor = RankExecutor(program, communicator, optimizer=make_optimizer)
    executor.load_weights({"w": draw(6, 4)})
    losses = [float(executor.step(draw(8, 6))[0]) for _ in range(3)]
    return losses, {name: x.tolist() for name, x in full_state_dict(executor).items()}


def make_optimizer(parameters):
    return torch.optim.AdamW(parameters, lr=0.1)


def test_every_primitive_on_gloo_equals_threads():
    expected = run_contexts(N, primitives, constants)
    for rank, got in enumerate(run_in_processes(N, run_primitives)):
        assert len(got) == len(expected[rank])
        for number, (a, b) in enumerate(zip(got, expected[rank], strict=True)):
            exact = {"rtol": 1e-6, "atol": 1e-5}
            tolerance = {"rtol": 0.02, "atol": 0.3} if b.dtype == torch.bfloat16 else exact
            message = f"rank {rank}, result {number}"
            torch.testing.assert_close(torch.from_numpy(a), b.double(), **tolerance, msg=message)


def test_training_on_gloo_equals_one_process():
    ((expected, expected_state),) = run_ranks_in_threads(1, run_training)
    (losses, state), (other_losses, nothing) = run_in_processes(2, run_training)
    assert losses == other_losses == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(torch.tensor(state["w"]), torch.tensor(expected_state["w"]))
    assert nothing == {}
