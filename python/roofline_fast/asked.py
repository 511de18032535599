"""What a simulation is asked for beside the engine's settings: its traffic and its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from roofline_fast.errors import SpecError, UnknownNameError
from roofline_fast.model import Model, find_model
from roofline_fast.trace import Trace
from roofline_fast.workload import load

DEFAULT_MODEL = "llama-3.1-8b"


def trace_of(trace: Any, options: Mapping[str, Any], seed: int, *, arrivals_needed: bool) -> Trace:
    """Return the traffic, or say what it can be."""
    several = isinstance(trace, Sequence) and all(isinstance(part, str | PathLike) for part in trace)
    if trace is not None and not isinstance(trace, str | PathLike | Trace) and not several:
        hint = (
            "for example a file of `JSON Lines`, or rf.Trace(arrival_s=…, prompt_tokens=…, output_tokens=…)"
        )
        raise SpecError(
            f"trace must be a path or a Trace: {trace!r}", field="trace", value=repr(trace), hint=hint
        )
    return load(trace, options, seed, arrivals_needed=arrivals_needed)


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
