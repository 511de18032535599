"""Which model a simulation serves, and how it was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from roofline_fast.errors import UnknownNameError
from roofline_fast.model import Model, find_model
from roofline_fast.traffic.trace import Trace

DEFAULT_MODEL = "llama-3.1-8b"


def model_of(
    model: str | PathLike[str] | Mapping[str, Any] | Model | None, trace: Trace
) -> tuple[Model, str | None]:
    """Return the model, and how it was chosen where the user did not."""
    if model is not None:
        found = find_model(model)
        return found, found.note
    if trace.model is None:
        return Model(DEFAULT_MODEL), f"model {DEFAULT_MODEL} (default; --model to change)"
    try:
        found = Model(trace.model)
    except UnknownNameError:
        why = f"default: the trace names `{trace.model}`, which is not known; --model to change"
        return Model(DEFAULT_MODEL), f"model {DEFAULT_MODEL} ({why})"
    return found, f"model {found.name} (the trace's own; --model to change)"
