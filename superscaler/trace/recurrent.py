"""Recurrent layers with dropout between them, one layer at a time.

Torch's own decomposition of LSTM, GRU and RNN forgets the dropout (2.13, `_rnn_helper`).
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from superscaler.runtime.randomness import NextId, dropout

Hidden = Tensor | Sequence[Tensor]


def recurrent(operator: Callable[..., Any]) -> Callable[..., Any]:
    """`aten.lstm`, whose hidden state is a pair, or `aten.gru`, `rnn_tanh`, `rnn_relu`."""

    def layered(
        next_id: NextId,
        x: Tensor,
        hidden: Hidden,
        weights: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        p: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        options = (has_biases, 1, 0.0, train, bidirectional, False)
        lasts = []
        x = x.transpose(0, 1) if batch_first else x  # as torch does before the dropout's draws
        for layer, given in enumerate(_by_layer(hidden, num_layers)):
            if layer:
                x = dropout(next_id, x, p, train)
            own = weights[layer * len(weights) // num_layers :][: len(weights) // num_layers]
            x, *last = operator(x, given, own, *options)
            lasts.append(last)
        x = x.transpose(0, 1) if batch_first else x
        return x, *(torch.cat(of_layers) for of_layers in zip(*lasts, strict=True))

    return layered


def _by_layer(hidden: Hidden, num_layers: int) -> list[Any]:
    if isinstance(hidden, Tensor):
        return list(hidden.chunk(num_layers))
    return list(zip(*(state.chunk(num_layers) for state in hidden), strict=True))
