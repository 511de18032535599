"""What a language model costs to serve, what bounds it, and what to buy.

Everything heavy is imported when it is first used: importing this package costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import (
    DoesNotFitError,
    InternalError,
    RooflineError,
    SpecError,
    TraceError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from roofline_fast._core import __version__

__all__ = [
    "DoesNotFitError",
    "InternalError",
    "RooflineError",
    "SpecError",
    "TraceError",
    "UnknownNameError",
    "__version__",
]

# Where each public name lives that is not imported above.
_HOME = {
    "__version__": "roofline_fast._core",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    if name != "__version__":
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
