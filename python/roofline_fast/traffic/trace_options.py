"""What a user says of how a trace is read, as the compiled half takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from roofline_fast.errors import SpecError


def pace(speedup: float | None, time_scale: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Return how much faster a trace goes, and what is to be said where that was told the other way."""
    if time_scale is None:
        return speedup, ()
    if speedup is not None:
        hint = "they are two words for one thing"
        message = f"time_scale must be left out with speedup: {time_scale}"
        raise SpecError(message, field="time_scale", value=str(time_scale), hint=hint)
    if not 0 < time_scale < float("inf"):
        message = f"time_scale must be above 0 and finite: {time_scale}"
        raise SpecError(message, field="time_scale", value=str(time_scale), hint="2 is half as fast")
    pace = "slower" if time_scale > 1 else "faster"
    told = f"time_scale {time_scale:g}: arrivals come {pace}, as with speedup {1 / time_scale:g}"
    return 1 / time_scale, (told,)


def seconds(given: tuple[float, float] | str | None) -> tuple[float, float] | None:
    """Return a window of time as its ends, however it is given."""
    return window(given) if isinstance(given, str) else given


def pairs(fields: Mapping[str, str]) -> list[str]:
    """Return fields and what they are as a flag has them."""
    return [f"{what}={field}" for what, field in fields.items()]


def columns_text(columns: str | Sequence[str] | Mapping[str, str] | None) -> str | None:
    """Return columns as a flag has them."""
    if columns is None or isinstance(columns, str):
        return columns
    parts = pairs(columns) if isinstance(columns, Mapping) else list(columns)
    if any(not isinstance(part, str) or "," in part for part in parts):
        hint = "a name with a comma in it is given with map"
        message = f"columns must be names without commas: {parts!r}"
        raise SpecError(message, field="columns", value=repr(parts), hint=hint)
    return ",".join(parts)


def window(text: str) -> tuple[float, float]:
    """Read ``A:B`` in seconds; an end left out is open."""
    begin, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return float(begin or 0.0), float(end or "inf")
    except ValueError:
        hint = "for example `600:1200`, or `600:` for everything from there on"
        raise SpecError(
            f"window must read A:B in seconds: {text}", field="window", value=text, hint=hint
        ) from None
