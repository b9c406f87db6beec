"""The rewrite of the exported graph: a table of replacements, applied while it is interpreted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import fx

from superscaler.errors import TraceError
from superscaler.runtime.randomness import RANDOM
from superscaler.trace.attention import attention
from superscaler.trace.bags import equal_bags, size_of_bags
from superscaler.trace.data_dependent import DATA_DEPENDENT, data_dependent
from superscaler.trace.functions import Functions
from superscaler.trace.linear import linear
from superscaler.trace.losses import cross_entropy_loss, log_softmax, nll_loss
from superscaler.trace.modes import Modes
from superscaler.trace.norm import batch_norm
from superscaler.trace.pool import adaptive_average
from superscaler.trace.recurrent import recurrent
from superscaler.trace.source import source_of
from superscaler.trace.split import chunk, split, split_with_sizes

aten = torch.ops.aten

REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    aten.linear.default: linear,
    # What a kernel made may lie otherwise in memory than its replacement's; torch 2.11 has views
    # where newer ones have reshapes (attention of nn.MultiheadAttention).
    aten.view.default: aten.reshape.default,
    aten.cross_entropy_loss.default: cross_entropy_loss,
    aten.nll_loss_nd.default: nll_loss,
    aten.nll_loss.default: nll_loss,
    aten.log_softmax.int: log_softmax,
    aten.batch_norm.default: batch_norm,
    aten.split.Tensor: split,
    aten.split_with_sizes.default: split_with_sizes,
    aten.split.sizes: split_with_sizes,
    aten.chunk.default: chunk,
    **{
        operator.default: adaptive_average(operator.default)
        for operator in (
            aten.adaptive_avg_pool1d,
            aten.adaptive_avg_pool2d,
            aten.adaptive_avg_pool3d,
        )
    },
}

BY_NAME: dict[str, Callable[..., Any]] = {
    "transformers.grouped_mm_fallback.default": torch.ops.superscaler.grouped_mm,
}

NUMBERED: dict[Any, Callable[..., Any]] = {
    **RANDOM,
    aten.scaled_dot_product_attention.default: attention,
    **{
        operator.input: recurrent(operator.input)
        for operator in (aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu)
    },
}


class Rewriter(fx.Interpreter):
    """Interprets an exported graph, calling our replacement where the tables have one.

    Random operators are numbered in the order of their calls.
    """

    def __init__(self, module: fx.GraphModule, functions: Functions) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.functions = functions
        self.next_id = count().__next__

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with Modes() as self.modes:
            return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        try:
            return super().run_node(n)
        except DATA_DEPENDENT as error:
            raise data_dependent(self._line(), error) from error

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is aten._assert_tensor_metadata.default:
            return None
        if target in REPLACEMENTS:
            return REPLACEMENTS[target](*args, **kwargs)
        if target is aten.embedding_bag.padding_idx and (size := size_of_bags(self.node)):
            weight, indices, offsets, _, mode, _, row_weights, _, padding_idx = args
            bags = equal_bags(size, weight, indices, mode, row_weights, padding_idx)
            return bags, offsets, offsets, offsets
        if target in NUMBERED:
            return NUMBERED[target](self.next_id, *args, **kwargs)
        if target is torch.ops.superscaler.function.default:
            return self.functions.call(*args)
        if str(target) in BY_NAME:
            return BY_NAME[str(target)](*args, **kwargs)
        if target in Modes.TARGETS:
            return self.modes.switch(target, *args)
        if isinstance(target, torch._ops.HigherOrderOperator):
            raise TraceError(f"{self._line()}: operator {target} is not supported; write it out")
        return super().call_function(target, args, kwargs)

    def _line(self) -> str:
        return source_of(self.node.meta.get("stack_trace") or "") or "the step"
