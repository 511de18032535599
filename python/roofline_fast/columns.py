"""Columns as users have them: lists, ranges, numpy arrays, data frame columns."""

from __future__ import annotations

from typing import Any

from roofline_fast.errors import SpecError

# Characters of a value that an error shows.
SHOWN = 60


def column(name: str, values: Any) -> Any:
    """Return numbers in a form the compiled half reads without a Python object a row; ``None`` passes.

    Raises
    ------
    SpecError
        Something that is no column of numbers, by the name it has.
    """
    if values is None or hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        return values
    import numpy as np

    if hasattr(values, "dtype") and not isinstance(values, np.ndarray):
        return values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.asarray(None)
    # Nothing tells the type of what is empty.
    if array.shape == (0,):
        return array.astype(np.uint32)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        hint = "pass a list of numbers, a numpy array, a polars column, or anything with the Arrow interface"
        shown = " ".join(repr(values).split())
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        raise SpecError(f"{name} must be a column of numbers: {shown}", field=name, value=shown, hint=hint)
    return array
