"""The dtypes that a model and its batches can be cast to, by name: no torch is needed to say so."""

CAST_DTYPES = ("float64", "float32", "bfloat16", "float16")
CAST_WORDS = f"{', '.join(CAST_DTYPES[:-1])} or {CAST_DTYPES[-1]}"


def cast_dtype(name: str) -> str | None:
    """The name without `torch.`, None where a model cannot be cast to it.

    >>> cast_dtype("torch.float32"), cast_dtype("int8")
    ('float32', None)
    """
    known = name.removeprefix("torch.")
    return known if known in CAST_DTYPES else None
