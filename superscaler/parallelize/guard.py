"""ModelGuard: notices when the model is not any more what the step was compiled for."""

from __future__ import annotations

from torch import nn

from superscaler.errors import ParallelizeError


class ModelGuard:
    """Remembers a model: which one it is, its parameters, their versions, and its mode; `number` is
    the step after which its weights were the trained ones."""

    def __init__(self, step: str, model: nn.Module, number: int) -> None:
        self._step = step
        self._number = number
        self._model = model
        self._form = _form(model)
        self._versions = _versions(model)
        self._training = model.training

    def forget(self) -> None:
        """The model's weights are not the trained ones any more."""
        self._number = -1

    def is_of(self, model: nn.Module) -> bool:
        return model is self._model

    def check(self, model: nn.Module) -> None:
        """Raise ParallelizeError if the model is another one, or changed but for its weights."""
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

    def has_new_weights(self, model: nn.Module, number: int) -> bool:
        """Whether the model's weights were changed. Raise ParallelizeError if they were not those
        of step `number`, the last one, before."""
        if _versions(model) == self._versions:
            return False
        if number != self._number:
            step = self._step
            raise ParallelizeError(
                f"the model's weights were changed, but {step} trains its own copy of them: call "
                f"{step}.sync(model) before they are changed, and it goes on with the changed "
                f"ones; or use {step}.load(folder)"
            )
        return True

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
