"""Columns as users have them: lists, ranges, numpy arrays, data frame columns."""

from __future__ import annotations

from typing import Any


def column(values: Any) -> Any:
    """Return the values in a form the compiled half reads without a Python object a row."""
    if (
        hasattr(values, "__arrow_c_stream__")
        or hasattr(values, "__arrow_c_array__")
        or hasattr(values, "dtype")
    ):
        return values
    import numpy as np

    return np.asarray(values)


def optional(values: Any) -> Any:
    """Return the same of values that may be absent."""
    return None if values is None else column(values)
