"""Dtypes by name, and those that a model can be cast to: no torch is needed to say so."""

CAST_DTYPES = ("float64", "float32", "bfloat16", "float16")
CAST_WORDS = f"{', '.join(CAST_DTYPES[:-1])} or {CAST_DTYPES[-1]}"


def dtype_name(dtype: object) -> str:
    """`float32` of `torch.float32`.

    >>> dtype_name("torch.float32")
    'float32'
    """
    return str(dtype).removeprefix("torch.")


def cast_dtype(name: str) -> str | None:
    """The name without `torch.`, None where a model cannot be cast to it.

    >>> cast_dtype("torch.float32"), cast_dtype("int8")
    ('float32', None)
    """
    known = dtype_name(name)
    return known if known in CAST_DTYPES else None
