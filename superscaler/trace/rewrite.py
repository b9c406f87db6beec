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
from superscaler.trace.norm import batch_norm
from superscaler.trace.pool import adaptive_average
from superscaler.trace.recurrent import recurrent
from superscaler.trace.source import source_of
from superscaler.trace.split import chunk, split, split_with_sizes

aten = torch.ops.aten
higher_order = torch.ops.higher_order

REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    aten.linear.default: linear,
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

    Random operators are numbered in the order of their calls; `ids` goes on from graph to nested
    graph.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        functions: Functions,
        ids: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.functions = functions
        self.next_id = ids or count().__next__

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
        if target is higher_order.wrap_with_autocast:
            return self._autocast(*args)
        if target is higher_order.wrap_with_set_grad_enabled:
            enabled, module, *inputs = args
            with torch.set_grad_enabled(enabled):
                return self._nested(module, inputs)
        if isinstance(target, torch._ops.HigherOrderOperator):
            raise TraceError(f"{self._line()}: operator {target} is not supported; write it out")
        return super().call_function(target, args, kwargs)

    def _autocast(
        self,
        _device: str,
        dtype: torch.dtype | None,
        enabled: bool,
        cache: bool | None,
        module: fx.GraphModule,
        *inputs: Any,
    ) -> Any:
        with torch.autocast("cpu", dtype=dtype, enabled=enabled, cache_enabled=cache):
            return self._nested(module, list(inputs))

    def _nested(self, module: fx.GraphModule, inputs: list[Any]) -> Any:
        rewriter = Rewriter(module, self.functions, self.next_id)
        return rewriter.run(*inputs, enable_io_processing=False)

    def _line(self) -> str:
        return source_of(self.node.meta.get("stack_trace") or "") or "the step"
