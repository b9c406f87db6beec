"""Modes: autocast, and gradients on or off, switched where the step switches them.

Patches private passes of torch.export; tried with 2.11, 2.13 and 2.14.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch._export.passes import replace_autocast_with_hop_pass, replace_set_grad_with_hop_pass
from torch.amp import autocast_mode


@contextlib.contextmanager
def modes_as_written() -> Iterator[None]:
    """Inside, an exported graph switches modes by operators in their places.

    torch.export makes nested graphs of them, loses `no_grad` inside of `autocast`, and does not see
    `inference_mode`, which is to gradients what `no_grad` is.
    """
    with (
        patch.object(torch.inference_mode, "__enter__", _enter_inference),
        patch.object(torch.inference_mode, "__exit__", _exit_inference),
        patch.object(replace_set_grad_with_hop_pass, "replace_set_grad_with_hop_pass", _as_it_is),
        patch.object(replace_autocast_with_hop_pass, "replace_autocast_with_hop_pass", _as_it_is),
    ):
        yield


def _enter_inference(mode: Any) -> None:
    mode.switched = torch.set_grad_enabled(not mode.mode)


def _exit_inference(mode: Any, *error: Any) -> None:
    mode.switched.__exit__(*error)


def _as_it_is(module: Any, signature: Any) -> tuple[Any, Any]:
    return module, signature


class Modes:
    """The modes that an interpreted graph has switched; as they were before, afterwards."""

    TARGETS = frozenset(
        (
            torch._C._set_grad_enabled,
            autocast_mode._enter_autocast,
            autocast_mode._exit_autocast,
        )
    )

    def __enter__(self) -> Modes:
        self._entered: list[torch.autocast] = []
        self._had_gradients = torch.is_grad_enabled()
        return self

    def __exit__(self, *_: object) -> None:
        while self._entered:
            self._entered.pop().__exit__(None, None, None)
        torch._C._set_grad_enabled(self._had_gradients)

    def switch(self, target: Any, *args: Any) -> torch.autocast | None:
        """What one of `TARGETS` does; kernels of any device are chosen on the CPU."""
        if target is autocast_mode._enter_autocast:
            _, dtype, enabled, cache = args
            mode = torch.autocast("cpu", dtype=dtype, enabled=enabled, cache_enabled=cache)
            mode.__enter__()  # type: ignore[no-untyped-call]
            self._entered.append(mode)
            return mode
        if target is autocast_mode._exit_autocast:
            self._entered.pop().__exit__(None, None, None)
        else:
            torch._C._set_grad_enabled(*args)
        return None
