"""What PyTorch itself offers for each form of parallelism, as one training step of the GPT."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent.parent))

from superscaler.workload import Workload

Batch = dict[str, torch.Tensor]
Step = Callable[[Batch], torch.Tensor]  # a global batch; the result's mean over ranks is the loss


def eager(work: Workload) -> Step:
    """The user's step in one process."""
    return _training(work, work.model)


def distributed_data_parallel(work: Workload) -> Step:
    """`DistributedDataParallel`: replicas, gradients in buckets, reduced during the backward."""
    return _on_own_rows(_training(work, DistributedDataParallel(work.model)))


def fsdp2(work: Workload) -> Step:
    """`fully_shard` on every layer and on the model: ZeRO stage 3."""
    mesh = _mesh()
    for layer in work.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(work.model, mesh=mesh)
    return _on_own_rows(_training(work, work.model))


def dtensor(work: Workload) -> Step:
    """`parallelize_module`: Megatron's columns and rows in every layer, the head's columns."""
    mesh = _mesh()
    plan: dict[str, Any] = {"head": ColwiseParallel(output_layouts=Replicate())}
    for i in range(len(work.model.layers)):
        for name in ("attention.query", "attention.key", "attention.value", "fc1"):
            plan[f"layers.{i}.{name}"] = ColwiseParallel()
        for name in ("attention.output", "fc2"):
            plan[f"layers.{i}.{name}"] = RowwiseParallel()
    parallelize_module(work.model, mesh, plan)
    for layer in work.model.layers:
        layer.attention.forward = MethodType(_local_heads, layer.attention)
    return _training(work, work.model)


def pipelining(work: Workload, microbatches: int = 4) -> Step:
    """`Schedule1F1B` over two halves of the layers."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    layers = list(work.model.layers)
    size = len(layers) // world_size
    part = _Stage(work.model, layers[rank * size : (rank + 1) * size], rank, world_size)
    stage = PipelineStage(part, rank, world_size, torch.device("cpu"))
    schedule = Schedule1F1B(stage, microbatches, loss_fn=_loss)
    optimizer = work.optimizer(list(part.parameters()))

    def step(batch: Batch) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        if rank == 0:
            schedule.step(batch["tokens"])
        else:
            schedule.step(target=batch["targets"], losses=losses)
        optimizer.step()
        optimizer.zero_grad()
        return torch.stack(losses).mean() * world_size if losses else torch.zeros(())

    return step


class _Stage(nn.Module):
    """Some layers, with the embeddings before the first and the head after the last."""

    def __init__(self, model: nn.Module, layers: list[nn.Module], rank: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        first, last = rank == 0, rank == count - 1
        self.tokens = model.tokens if first else None
        self.positions = model.positions if first else None
        self.norm = model.norm if last else None
        self.head = model.head if last else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.tokens is not None and self.positions is not None:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            x = layer(x)
        return x if self.norm is None or self.head is None else self.head(self.norm(x))


def _training(work: Workload, model: nn.Module) -> Step:
    optimizer = work.optimizer(list(model.parameters()))

    def step(batch: Batch) -> torch.Tensor:
        loss = work.step(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def _on_own_rows(step: Step) -> Step:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    return lambda batch: step({name: x.chunk(world_size)[rank] for name, x in batch.items()})


def _local_heads(self: Any, x: torch.Tensor) -> torch.Tensor:
    """The example's attention over however many heads this rank has."""
    split = (*x.shape[:2], -1, x.shape[2] // self.heads)
    query, key, value = (
        project(x).view(split).transpose(1, 2) for project in (self.query, self.key, self.value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return self.output(mixed.transpose(1, 2).flatten(2))


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))
