"""Axes as users write them: values, lists, numpy arrays, ranges, and texts such as ``1:1024:x2``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roofline_fast import _core, checks
from roofline_fast.errors import SpecError

MOST_VALUES = 10_000_000
COUNTS = (
    "tp",
    "pp",
    "dp",
    "ep",
    "batch_size",
    "input_len",
    "output_len",
    "prefix_len",
    "chunk",
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "w_bits",
    "a_bits",
    "kv_bits",
    "num_speculative_tokens",
)
NUMBERS = ("compute_scale", "bandwidth_scale", "link_scale", "overlap", "gpu_memory_utilization")
FLAGS = ("flash_attention",)
NAMES = (
    "model",
    "hw",
    "quantization",
    "kv_cache_dtype",
    "techniques",
    "spec_method",
    "spec_acceptance",
    "fusion",
    "engine",
    "mode",
    "phase",
)
HINT = "for example `1,2,4`, `1:64` (every one), `16:4096:16` (a step) or `1:1024:x2` (a factor)"


def values(axis: str, given: Any) -> list[Any]:
    """Return the values of an axis, in order.

    Parameters
    ----------
    axis : str
        Its name: decides what a text means.
    given : object
        One value, any iterable of values, a numpy array, or a text of values and ranges. A value of
        ``techniques`` may be a list: these together.

    Raises
    ------
    SpecError
        Values of the wrong kind, or none.
    """
    if isinstance(given, str):
        if axis == "techniques":
            return [_technique(text) for text in _text(axis, given)]
        return [given.strip()] if axis in ("model", "hw") and "," not in given else _text(axis, given)
    if hasattr(given, "tolist"):
        given = given.tolist()
    elif hasattr(given, "to_list"):
        given = given.to_list()
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        given = [given]
    if isinstance(given, range) and len(given) > MOST_VALUES:
        raise _refused(axis, f"must have at most {MOST_VALUES:,} values", len(given))
    if axis in COUNTS and isinstance(given, range) and given and min(given[0], given[-1]) >= 0:
        return list(given)
    found: list[Any] = []
    for value in given:
        found += _text(axis, value) if isinstance(value, str) and axis not in NAMES else [_plain(axis, value)]
    if axis == "techniques":
        found = [_technique(value) for value in found]
    if not found:
        hint = "give at least one value, or leave the axis out"
        raise SpecError(f"{axis} must have values: none", field=axis, hint=hint)
    return found


def together(choices: Sequence[Sequence[str]]) -> list[str]:
    """Return every way to take one set of techniques of each of several choices, joined; the last changes fastest.

    Examples
    --------
    >>> from roofline_fast.sweeps.axes import together
    >>> together([["none", "kv-quant:bits=4"], ["none", "weight-quant:bits=4"]])
    ['none', 'weight-quant:bits=4', 'kv-quant:bits=4', 'kv-quant:bits=4+weight-quant:bits=4']
    """
    return [_joined(chosen) for chosen in itertools.product(*choices)]


def _joined(techniques: Iterable[str]) -> str:
    said = [text for text in techniques if text.strip() != "none"]
    return "+".join(said) if said else "none"


def _technique(value: Any) -> Any:
    """Return techniques as one text in which their order says nothing, with what their files say."""
    return _core.Deployment.canonical(checks.techniques(value)) if isinstance(value, str) else value


def _plain(axis: str, value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if axis in COUNTS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refused(axis, "must be whole numbers", value)
        if value < 0:
            raise _refused(axis, "must not be negative", value)
    elif axis in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused(axis, "must be numbers", value)
        return float(value)
    elif axis in FLAGS and not isinstance(value, bool):
        raise _refused(axis, "must be true or false", value)
    elif axis == "spec_acceptance" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    elif axis == "techniques" and isinstance(value, list | tuple):
        return _joined(_plain(axis, text) for text in value)
    elif axis in NAMES and axis not in ("model", "hw") and not isinstance(value, str):
        raise _refused(axis, "must be names", value)
    return value


def _text(axis: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise SpecError(f"{axis} must be values with commas between them: {text!r}", field=axis, value=text)
    if axis == "techniques":
        return _techniques(parts)
    if axis in COUNTS:
        return [count for part in parts for count in _counts(axis, part)]
    if axis in NUMBERS:
        return [_number(axis, part) for part in parts]
    if axis in FLAGS:
        return [_flag(axis, part) for part in parts]
    return list(parts)


def _techniques(parts: list[str]) -> list[str]:
    """Return the techniques of a text: a part that only sets a value belongs to the technique before it."""
    found: list[str] = []
    for part in parts:
        name, equals, _ = part.partition("=")
        if equals and ":" not in name and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _counts(axis: str, part: str) -> list[int]:
    ends = part.split(":")
    must = "must be whole numbers or ranges"
    if len(ends) > 3:
        raise _refused(axis, must, part, HINT)
    step = ends[2] if len(ends) == 3 else "1"
    factor = step[:1] in ("x", "*")
    try:
        first, last, by = int(ends[0]), int(ends[min(1, len(ends) - 1)]), int(step[1:] if factor else step)
    except ValueError:
        raise _refused(axis, must, part, HINT) from None
    if len(ends) == 1:
        return [_plain(axis, first)]
    if last < first or by < (2 if factor else 1) or (factor and first < 1):
        raise _refused(axis, "must be ranges that go up", part, HINT)
    if factor:
        found = [first]
        while found[-1] * by <= last:
            found.append(found[-1] * by)
        return found
    if (last - first) // by >= MOST_VALUES:
        raise _refused(axis, f"must have at most {MOST_VALUES:,} values", part)
    return list(range(first, last + 1, by))


def _number(axis: str, part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise _refused(axis, "must be numbers", part) from None


def _flag(axis: str, part: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if part.lower() not in known:
        raise _refused(axis, "must be true or false", part)
    return known[part.lower()]


def _refused(axis: str, must: str, value: Any, hint: str = "") -> SpecError:
    return SpecError(f"{axis} {must}: {value!r}", field=axis, value=repr(value), hint=hint)
