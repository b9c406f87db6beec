"""Settings: the keyword arguments of a user's callable, given as text."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

import torch

from superscaler.errors import WorkloadError

_EXAMPLE = {bool: "true", int: "4", float: "0.5", torch.dtype: "float32", types.NoneType: "none"}


def read_settings(
    what: str, signature: inspect.Signature, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings as keyword arguments: text becomes the type of the parameter it is for.

    That is the parameter's annotation, else its default's type. Values that are no text stay as
    they are. Raises WorkloadError, which begins with `what`, if a setting does not fit.
    """
    parameters = signature.parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for key in settings:
        if key not in named and not takes_any:
            known = f"its settings: {', '.join(named)}" if named else "it takes none"
            raise WorkloadError(f"{what}: it has no setting {key!r}; {known}")
    missing = [key for key, p in named.items() if p.default is p.empty and key not in settings]
    if missing:
        flags = " ".join(f"--set {key}=VALUE" for key in missing)
        raise WorkloadError(f"{what}: no value for {', '.join(missing)}; give {flags}")
    return {
        key: _convert(f"{what}: setting {key!r}", key, value, _wanted(named.get(key)))
        for key, value in settings.items()
    }


def _wanted(parameter: inspect.Parameter | None) -> Any:
    """What a parameter takes: its annotation, else its default's type, else anything."""
    if parameter is None:
        return Any
    if parameter.annotation is not parameter.empty:
        return parameter.annotation
    has_type = parameter.default is not parameter.empty and parameter.default is not None
    return type(parameter.default) if has_type else Any


def _convert(what: str, key: str, value: Any, wanted: Any) -> Any:
    if not isinstance(value, str):
        return value
    kinds = _alternatives(wanted)
    for kind in kinds:
        try:
            return _read(value, kind)
        except ValueError:
            continue
    expected = " or ".join(_kind_name(kind) for kind in kinds)
    raise WorkloadError(
        f"{what} takes {expected}, not {value!r}; write --set {key}={_example(kinds[0])}"
    )


def _alternatives(wanted: Any) -> tuple[Any, ...]:
    """The types, or values, a setting may have, in the order they are tried: str reads anything."""
    if wanted is Any:
        return (types.NoneType, bool, int, float, str)
    if typing.get_origin(wanted) is Literal:
        return typing.get_args(wanted)
    is_union = typing.get_origin(wanted) in (Union, types.UnionType)
    kinds = typing.get_args(wanted) if is_union else (wanted,)
    return tuple(sorted(kinds, key=lambda kind: (kind is str, kind is Path, kind is float)))


def _read(text: str, kind: Any) -> Any:
    """The value of this type that the text says; ValueError if it says none."""
    lowered = text.lower()
    if kind is types.NoneType and lowered in ("none", "null"):
        return None
    if kind is bool and lowered in ("true", "false", "yes", "no", "on", "off"):
        return lowered in ("true", "yes", "on")
    if kind in (int, float, str, Path):
        return kind(text)
    if kind is torch.dtype and isinstance(found := getattr(torch, text, None), torch.dtype):
        return found
    if not isinstance(kind, type) and text == str(kind):  # a value of a Literal
        return kind
    raise ValueError(text)


def _kind_name(kind: Any) -> str:
    if not isinstance(kind, type):
        return repr(kind)
    return "None" if kind is types.NoneType else kind.__name__


def _example(kind: Any) -> str:
    return _EXAMPLE.get(kind, "VALUE") if isinstance(kind, type) else str(kind)
