"""Visible: the queries and keys of an attention call that causality does not hide entirely."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import pad

from superscaler.runtime.kernels.attention_call import AttentionCall


@dataclass(frozen=True, slots=True)
class Visible:
    """`call` is that of the queries from `blind` on, on the first `seen` keys, of these numbers."""

    blind: int
    seen: int
    num_queries: int
    num_keys: int
    call: AttentionCall

    @staticmethod
    def of(q: Tensor, k: Tensor, call: AttentionCall) -> Visible:
        """What is visible; everything where a mask or dropout would have to be cut, too, unless
        nothing is."""
        sizes = (q.shape[-2], k.shape[-2])
        blind, seen = call.visible(*sizes)
        if seen and (call.mask is not None or call.dropout_p):
            blind, seen = 0, k.shape[-2]
        later = replace(call, query_start=call.query_start + blind * call.query_stride)
        return Visible(blind, seen, *sizes, later)

    @property
    def is_empty(self) -> bool:
        return self.seen == 0

    def queries(self, x: Tensor, dim: int = -2) -> Tensor:
        """Those of all queries that see something."""
        return x.narrow(dim, self.blind, self.num_queries - self.blind)

    def keys(self, x: Tensor) -> Tensor:
        """Those of all keys that are seen."""
        return x.narrow(-2, 0, self.seen)

    def all_queries(self, gradient: Tensor) -> Tensor:
        """A gradient of `queries` as one of all of them."""
        return pad(gradient, (0, 0, self.blind, 0)) if self.blind else gradient

    def all_keys(self, gradient: Tensor) -> Tensor:
        """A gradient of `keys` as one of all of them."""
        hidden = self.num_keys - self.seen
        return pad(gradient, (0, 0, 0, hidden)) if hidden else gradient
