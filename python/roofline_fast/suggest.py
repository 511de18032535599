"""Unknown names are answered with the nearest known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from roofline_fast.errors import SpecError, UnknownNameError


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the three known names nearest to this one, best first."""
    return difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.0)


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not among the known ones."""
    hint = "nearest: " + ", ".join(nearest(name, known))
    return UnknownNameError(f"no {kind} is called `{name}`", field=kind, value=name, hint=hint)


def choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the name if it is known.

    Raises
    ------
    UnknownNameError
        It is not.
    SpecError
        It is no text.
    """
    if not isinstance(name, str):
        raise SpecError(f"{kind} must be a name: {name!r}", field=kind, value=repr(name))
    if name not in (names := list(known)):
        raise unknown(kind, name, names)
    return name
