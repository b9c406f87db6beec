"""ModelGuard: notices when the model is not any more what the step was compiled for."""

from __future__ import annotations

from torch import nn

from superscaler.errors import ParallelizeError


class ModelGuard:
    """Remembers a model: which one it is, its parameters, their versions, and its mode."""

    def __init__(self, step: str, model: nn.Module) -> None:
        self._step = step
        self._model = model
        self._form = _form(model)
        self._versions = _versions(model)
        self._training = model.training

    def is_of(self, model: nn.Module) -> bool:
        return model is self._model

    def check(self, model: nn.Module, may_train: bool = False) -> None:
        """Raise ParallelizeError if the model changed; with `may_train` its values may have."""
        step = self._step
        if model is not self._model:
            raise ParallelizeError(
                f"{step} was compiled for another model; one decorated step trains one model: "
                "decorate the step once more for this one"
            )
        if model.training != self._training:
            was, now = ("train", "eval") if self._training else ("eval", "train")
            raise ParallelizeError(
                f"{step} was compiled with the model in {was} mode, now it is in {now} mode; call "
                f"model.{was}() before the step"
            )
        self._check_form(model)
        if not may_train and _versions(model) != self._versions:
            raise ParallelizeError(
                f"the model's weights were changed since {step} began to train its own copy of "
                f"them; load weights before the first step, or use {step}.load(folder)"
            )

    def _check_form(self, model: nn.Module) -> None:
        form = _form(model)
        if form == self._form:
            return
        changed = sorted(
            name for name in {*form, *self._form} if form.get(name) != self._form.get(name)
        )
        raise ParallelizeError(
            f"the model changed since {self._step} was compiled: {', '.join(changed[:4])} "
            "(name, shape, dtype or requires_grad); change it before the first step, or decorate "
            "the step once more"
        )


def _form(model: nn.Module) -> dict[str, tuple[object, ...]]:
    return {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()}


def _versions(model: nn.Module) -> list[int]:
    return [p._version for p in model.parameters()]
