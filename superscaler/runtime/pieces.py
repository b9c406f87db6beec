"""Pieces of a tensor in torch.distributed.checkpoint, which has no plain type for rectangles."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)


class Pieces:
    """The rectangles of one tensor that this process stores or loads: views of its own parts."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.shape = shape
        self._properties = TensorProperties(dtype=dtype)
        self._offsets: list[torch.Size] = []
        self._views: list[torch.Tensor] = []

    def add(self, offsets: tuple[int, ...], view: torch.Tensor) -> None:
        """Add the rectangle at `offsets` of the whole tensor."""
        self._offsets.append(torch.Size(offsets))
        self._views.append(view)

    def at(self, offsets: torch.Size) -> torch.Tensor:
        """The rectangle at `offsets`; pieces that are stored do not overlap."""
        return self._views[self._offsets.index(offsets)]

    def number(self, position: int) -> torch.Tensor:
        """The rectangle that was added as number `position`."""
        return self._views[position]

    def write_items(self, name: str) -> list[WriteItem]:
        """What to store."""
        return [
            WriteItem(
                MetadataIndex(name, chunk.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk, self._properties, self.shape),
            )
            for chunk in self.__create_chunk_list__()
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        """What to load; the checkpoint library calls it."""
        return [
            ChunkStorageMetadata(offsets, view.shape)
            for offsets, view in zip(self._offsets, self._views, strict=True)
        ]


class SavePlanner(DefaultSavePlanner):
    """Stores `Pieces`, and other objects from every rank that has one."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        items: list[WriteItem] = []
        for name, value in self.state_dict.items():
            if isinstance(value, Pieces):
                items += value.write_items(name)
            else:
                items.append(WriteItem(MetadataIndex(name), WriteItemType.BYTE_IO))
        self.plan = SavePlan(items)
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Any:
        value = self.state_dict[index.fqn]
        if not isinstance(value, Pieces):
            return value
        assert index.offset is not None
        return value.at(index.offset)


class LoadPlanner(DefaultLoadPlanner):
    """Loads into `Pieces`, and replaces other objects."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        self.state_dict = state_dict
        self.metadata = metadata
        self.is_coordinator = is_coordinator

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        assert index.index is not None
        piece: torch.Tensor = self.state_dict[index.fqn].number(index.index)
        return piece
