"""Small programs in the emitted format, written by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch

from superscaler.runtime import RankExecutor, load_ranks, run_ranks_in_threads
from superscaler.runtime.communicator import Communicator
from superscaler.runtime.context import Context

HEADER = """import torch
from superscaler.runtime import Task
aten = torch.ops.aten

"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_contexts(
    world_size: int,
    function: Callable[[int, Context], Any],
    constants: dict[str, Any] | Callable[[int], dict[str, Any]],
    timeout: float = 10.0,
) -> list[Any]:
    """Call `function(rank, ctx)` on every rank, each a thread."""

    def rank_main(rank: int, communicator: Communicator) -> Any:
        own = constants(rank) if callable(constants) else constants
        return function(rank, Context(own, communicator))

    return run_ranks_in_threads(world_size, rank_main, timeout)


def whole(shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((size,) for size in shape)


def full_box(shape: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], ...]:
    return tuple(((0, size),) for size in shape)


def linear_program(tp: int, dp: int = 1, rows: int = 8, inner: int = 6, out: int = 4) -> dict:
    """loss = sum((x @ w)^2) with SGD: w split by rows over tp ranks, the batch over dp ranks."""
    ranks = range(tp * dp)
    code = (
        HEADER
        + """
def forward_0(ctx, w, x):
    # linear, model.py:7, in forward
    y = aten.mm.default(x, w)
    # linear: partial sums over tp ranks -> replicas
    y = ctx.all_reduce(y, "tp")
    y = ctx.wait(y)
    # model.py:8, in forward
    loss = aten.sum.default(aten.mul.Tensor(y, y))
    return y, loss

def reduce_loss(ctx, loss):
    # loss: partial sums over dp ranks -> replicas
    loss = ctx.all_reduce(loss, "dp")
    return (loss,)

def backward_0(ctx, x, y):
    # linear, model.py:7, in forward
    dw = aten.mm.default(aten.t.default(x), aten.mul.Tensor(y, 2))
    return (dw,)

def reduce_gradient(ctx, dw):
    # w: partial sums over dp ranks -> replicas
    return tuple(ctx.all_reduce_coalesced([dw], "dp"))

def update_0(ctx, dw):
    ctx.optimizer_step({"w": dw})
    return ()

TASKS = {
    "forward_0": Task(forward_0, reads=("w", "x@0"), writes=("y@0", "loss_part+")),
    "reduce_loss": Task(reduce_loss, reads=("loss_part",), writes=("loss",)),
    "backward_0": Task(backward_0, reads=("x@0", "y@0"), writes=("dw_part+",)),
    "reduce_gradient": Task(reduce_gradient, reads=("dw_part",), writes=("dw",)),
    "update_0": Task(update_0, reads=("dw",), writes=()),
}
SCHEDULE = [
    ("forward_0", (0,)), ("backward_0", (0,)), ("forward_0", (1,)), ("backward_0", (1,)),
    ("reduce_loss", ()), ("reduce_gradient", ()), ("update_0", ()),
]
"""
    )
    files = {"program_0.py": code}
    layout = []
    for rank in ranks:
        d, t = divmod(rank, tp)
        columns = (t * inner // tp, (t + 1) * inner // tp)
        part = {"name": "w", "slots": ((inner,), (out,)), "box": ((columns,), ((0, out),))}
        if d == 0:
            layout.append([rank, part["slots"], part["box"]])
        micro = rows // dp // 2
        inputs = [
            {
                "key": ("x", (m,)),
                "name": 0,
                "slots": ((2, dp, micro), (inner,)),
                "box": (((m, m + 1), (d, d + 1), (0, micro)), (columns,)),
            }
            for m in range(2)
        ]
        groups = {
            "tp": tuple(d * tp + i for i in range(tp)),
            "dp": tuple(i * tp + t for i in range(dp)),
        }
        files[f"rank_{rank}.py"] = (
            f'PROGRAM = "program_0"\nRANK = {rank}\nCONSTANTS = {groups!r}\n'
            f"PARAMETERS = {[{'key': ('w', ()), 'trained': True, **part}]!r}\nBUFFERS = []\n"
            f"INPUTS = {inputs!r}\n"
            f"RESULTS = {{'loss': ('loss', ()), 'metrics': {{}}, 'grad_norm': None}}\n"
            "NEW_BUFFERS = []\n"
        )
    all_groups = [[d * tp + i for i in range(tp)] for d in range(dp)]
    all_groups += [[d * tp + t for d in range(dp)] for t in range(tp)]
    files["manifest.json"] = json.dumps(
        manifest(
            len(ranks),
            parameters={"w": {"shape": [inner, out], "dtype": "float64", "trained": True}},
            optimized=[["w", [inner, out], "float64"]],
            leaves=[{"name": "x", "shape": [rows, inner], "dtype": "float64", "used": True}],
            groups=all_groups,
            state_layout={"w": layout},
        )
    )
    return files


def manifest(world_size: int, **fields: Any) -> dict[str, Any]:
    leaves = fields.pop("leaves", [])
    return {
        "world_size": world_size,
        "parameters": {},
        "optimized": [],
        "buffers": {},
        "batch": {"structure": None, "leaves": leaves},
        "results": {"loss": 0, "metrics": {}, "grad_norm": None},
        "groups": [],
        "state_layout": {},
        **fields,
    }


def one_rank_files(code: str, schedule: str, tasks: str, **own: Any) -> dict[str, str]:
    """A program of one rank; `own` are rank file constants and `manifest` fields."""
    fields = own.pop("manifest", {})
    constants = {"CONSTANTS": {}, "PARAMETERS": [], "BUFFERS": [], "INPUTS": [], **own}
    constants = {"RESULTS": {"loss": ("loss", ())}, "NEW_BUFFERS": [], **constants}
    rank = 'PROGRAM = "program_0"\nRANK = 0\n'
    rank += "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    return {
        "manifest.json": json.dumps(manifest(1, **fields)),
        "program_0.py": f"{HEADER}{code}\nTASKS = {tasks}\nSCHEDULE = {schedule}\n",
        "rank_0.py": rank,
    }


def train(
    files: dict[str, str],
    weights: dict[str, torch.Tensor],
    batches: Sequence[Any],
    optimizer: Callable[..., torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.01),
    after: Callable[[RankExecutor], Any] = lambda executor: executor,
    **options: Any,
) -> tuple[list[list[float]], list[Any]]:
    """Losses per rank and step, and what `after` makes of the executors."""
    programs = load_ranks(files)

    def rank_main(rank: int, communicator: Communicator) -> tuple[list[float], Any]:
        executor = RankExecutor(programs[rank], communicator, optimizer=optimizer, **options)
        executor.load_weights(weights)
        losses = [float(executor.step(batch)[0]) for batch in batches]
        return losses, after(executor)

    results = run_ranks_in_threads(len(programs), rank_main, 10.0)
    return [losses for losses, _ in results], [after for _, after in results]


def linear_reference(
    w: torch.Tensor, batches: Sequence[torch.Tensor], make: Callable[..., Any]
) -> tuple[list[float], torch.Tensor, torch.Tensor]:
    """Losses, the last gradient and the weight of the same training in one process."""
    parameter = torch.nn.Parameter(w.clone())
    optimizer = make([parameter])
    losses = []
    for x in batches:
        optimizer.zero_grad()
        loss = (x @ parameter).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert parameter.grad is not None
    return losses, parameter.grad, parameter.detach()
