"""Keywords that must be numbers, refused by name before they reach the compiled half."""

from __future__ import annotations

import math
import operator
from typing import Any

from roofline_fast.errors import SpecError

# Counts are kept in this many bits where nothing larger makes sense.
BITS = 32


def counts(bits: int = BITS, **values: Any) -> None:
    """Refuse what is no whole number, negative, or too large; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool):
            raise _refused(name, "must be a whole number", value)
        try:
            whole = operator.index(value)
        except TypeError:
            raise _refused(name, "must be a whole number", value) from None
        if whole < 0:
            raise _refused(name, "must not be negative", value)
        if whole >= 2**bits:
            raise _refused(name, f"must be below 2^{bits}", value)


def positive(**values: Any) -> None:
    """Refuse counts below one; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    counts(**values)
    for name, value in values.items():
        if value is not None and value < 1:
            raise _refused(name, "must be at least 1", value)


def shares(**values: Any) -> None:
    """Refuse what is no number from 0 to 1; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    numbers(**values)
    for name, value in values.items():
        if value is not None and (not math.isfinite(value) or not 0 <= value <= 1):
            raise _refused(name, "must be from 0 to 1", value)


def numbers(**values: Any) -> None:
    """Refuse what is no number; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    for name, value in values.items():
        if isinstance(value, bool):
            raise _refused(name, "must be a number", value)
        try:
            float(0.0 if value is None else value)
        except (TypeError, ValueError):
            raise _refused(name, "must be a number", value) from None


def texts(**values: Any) -> None:
    """Refuse what is no text; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise _refused(name, "must be a name", value)


def techniques(techniques: Any) -> list[str]:
    """Return techniques as a list of texts: one text, several, or none.

    Raises
    ------
    SpecError
        Something that is no text.
    """
    if techniques is None:
        return []
    if isinstance(techniques, str):
        return [techniques]
    given = list(techniques) if hasattr(techniques, "__iter__") else [techniques]
    for text in given:
        if not isinstance(text, str):
            raise _refused("techniques", "must be texts such as `kv-quant:bits=4`", text)
    return given


def chances(**values: Any) -> float | list[float] | str | None:
    """Return the only value as a number, a list of numbers or the text it is; ``None`` passes.

    Raises
    ------
    SpecError
        It is none of these.
    """
    ((name, value),) = values.items()
    if value is None or isinstance(value, str):
        return value
    try:
        return [float(each) for each in value] if hasattr(value, "__iter__") else float(value)
    except (TypeError, ValueError):
        must = "must be a chance, one a position, or `pattern:A,B`"
        raise _refused(name, must, value) from None


def _refused(name: str, must: str, value: Any) -> SpecError:
    return SpecError(f"{name} {must}: {value!r}", field=name, value=repr(value))
