"""Keywords of a wrong kind, refused by name: before they reach the compiled half, or in its stead."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from roofline_fast.errors import MissingFileError, RooflineError, SpecError

P = ParamSpec("P")
R = TypeVar("R")

# What the compiled half says of an argument of a wrong kind, and what must hold instead.
KINDS = {
    "interpreted as an integer": "must be a whole number",
    "to unsigned": "must not be negative",
    "too big to convert": "must be a smaller whole number",
    "must be real number": "must be a number",
    "instance of 'bool'": "must be True or False",
    "instance of 'str'": "must be a text",
    "instance of 'Progress'": "must be a Progress",
    "os.PathLike": "must be a path",
    "": "must be of the kind that is documented",
}

# Counts are kept in this many bits where nothing larger makes sense.
BITS = 32


def limits(given: Mapping[str, Any]) -> None:
    """Refuse limits of GPUs that are no counts, or leave none.

    Raises
    ------
    SpecError
        The first such limit, by its name.
    """
    least, most = given.get("min_gpus"), given.get("max_gpus")
    counts(min_gpus=least, max_gpus=most)
    if least is not None and most is not None and least > most:
        raise _refused("min_gpus", f"must be at most max_gpus, {most}", least)


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


def switches(**values: Any) -> None:
    """Refuse what is neither true nor false; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    for name, value in values.items():
        # numpy's own truth values are numbers of no other kind.
        if value is not None and type(value).__name__ not in ("bool", "bool_"):
            raise _refused(name, "must be True or False", value)


def sizes(name: str, values: Any) -> list[int]:
    """Return whole numbers from 1 up as a list: one or several.

    Raises
    ------
    SpecError
        A value that is no such number.
    """
    given = list(values) if hasattr(values, "__iter__") else [values]
    for value in given:
        if value is None:
            raise _refused(name, "must be a whole number", value)
        positive(**{name: value})
    return [int(value) for value in given]


def several(**values: Any) -> None:
    """Refuse what is neither one text nor several; ``None`` passes.

    Raises
    ------
    SpecError
        The first such value, by its keyword.
    """
    for name, value in values.items():
        listed = isinstance(value, Iterable) and all(isinstance(each, str) for each in value)
        if value is not None and not listed:
            raise _refused(name, "must be names", value)


def ranks(**values: Any) -> list[float]:
    """Return the only value as a list of numbers: one or several.

    Raises
    ------
    SpecError
        It is neither.
    """
    ((name, value),) = values.items()
    try:
        return [float(each) for each in value] if hasattr(value, "__iter__") else [float(value)]
    except (TypeError, ValueError):
        raise _refused(name, "must be numbers", value) from None


def techniques(techniques: Any) -> list[str]:
    """Return techniques as a list of texts: one text, several, or none; files among their settings are read.

    Raises
    ------
    MissingFileError
        A file that is not there.
    SpecError
        Something that is no text, a file that is not what a setting needs.
    """
    from roofline_fast import technique_files

    if techniques is None:
        return []
    if isinstance(techniques, str):
        return [technique_files.inline(techniques)]
    given = list(techniques) if hasattr(techniques, "__iter__") else [techniques]
    for text in given:
        if not isinstance(text, str):
            raise _refused("techniques", "must be texts such as `kv-quant:bits=4`", text)
    return [technique_files.inline(text) for text in given]


def objectives(slo: str | None) -> None:
    """Refuse two objectives for one metric: only one of them could be meant.

    Raises
    ------
    SpecError
        A metric that is named twice.
    """
    metrics = [part.partition(":")[0] for part in (slo or "").replace(",", " ").split()]
    for metric in metrics:
        if metrics.count(metric) > 1:
            hint = "keep one of them; a percentile is an objective of its own (`ttft@p99:500`)"
            raise SpecError(f"slo must name {metric} once: {slo}", field="slo", value=str(slo), hint=hint)


def chances(**values: Any) -> float | list[float] | str | None:
    """Return the only value as a number, a list of numbers (also of a file after ``@``) or the text it is.

    Raises
    ------
    MissingFileError
        A file that is not there.
    SpecError
        It is none of these.
    """
    ((name, value),) = values.items()
    if isinstance(value, str) and value.startswith("@"):
        from roofline_fast import technique_files

        return technique_files.chances(value[1:])
    if value is None or isinstance(value, str):
        return value
    try:
        return [float(each) for each in value] if hasattr(value, "__iter__") else float(value)
    except (TypeError, ValueError):
        must = "must be a chance, one a position, or `pattern:A,B`"
        raise _refused(name, must, value) from None


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse arguments of a wrong kind, and files that cannot be read, with a `SpecError`.

    What is not checked beforehand is found by the compiled half, which raises a TypeError with the name as a note.
    """

    @functools.wraps(function)
    def refusing(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*arguments, **keywords)
        except RooflineError:
            raise
        except FileNotFoundError as why:
            raise MissingFileError(f"a file must exist: {why.filename}", value=str(why.filename)) from None
        except OSError as why:
            if why.filename is None:
                raise SpecError(str(why)) from None
            message = f"{why.filename} must be a file that can be read: {why.strerror}"
            raise SpecError(message, value=str(why.filename)) from None
        except (TypeError, OverflowError) as why:
            note = re.fullmatch("while processing '(.+)'", "".join(getattr(why, "__notes__", ())))
            if note is None:
                raise
            must = next(must for said, must in KINDS.items() if said in str(why))
            name = note[1]
            raise _refused(name, must, keywords.get(name, why)) from None

    return refusing


def _refused(name: str, must: str, value: Any) -> SpecError:
    return SpecError(f"{name} {must}: {value!r}", field=name, value=repr(value))
