"""What is known by name: devices, models and techniques, shipped ones and the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roofline_fast import _core, user_files
from roofline_fast.frames import frame
from roofline_fast.hardware import find_hardware
from roofline_fast.model import Model, find_model
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

KINDS = ("hardware", "models", "techniques")


def catalog(kind: str, name: str | None = None) -> pl.DataFrame:
    """List what is known by name.

    Parameters
    ----------
    kind : {"hardware", "models", "techniques"}
        What to list.
    name : str, optional
        One device, model or technique, or a device's or model's file, all about it; everything, one row each, unless
        said.

    Returns
    -------
    polars.DataFrame
        One row a device or model: sizes in GiB, bandwidth in GB/s, peaks in TFLOP/s (dense). With a name one
        row a figure: for devices ``field, value, unit, source``, for models and techniques ``field, value``.

    Raises
    ------
    UnknownNameError
        An unknown kind or name, with the nearest.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> rf.catalog("hardware").filter(name="h100-sxm")["bandwidth_gb_s"].item()
    3350.0
    >>> rf.catalog("models", "llama-3.1-8b").filter(field="layers")["value"].item()
    '32'
    """
    import polars as pl

    choice("catalogue", kind, KINDS)
    if kind == "techniques":
        return frame(_core.Deployment.technique_catalog(name))
    if kind == "hardware":
        if name is not None:
            return find_hardware(name).facts
        return frame(_core.Hardware.catalog())
    if name is not None:
        return pl.DataFrame(_model_facts(find_model(name)), schema=["field", "value"], orient="row")
    return frame(_core.Model.catalog())


def own_names(kind: str) -> list[str]:
    """Return the names of the user's own files, in ``$ROOFLINE_FAST_DATA``."""
    if kind == "techniques":
        return []
    return list(user_files.files(kind, (".toml",) if kind == "hardware" else (".json", ".toml")))


def _model_facts(model: Model) -> list[tuple[str, str]]:
    sizes = ("parameters", "active_parameters", "vision_parameters", "layers", "max_context")
    fields = ("name", "title", "family", *sizes, "dtype", "quantization", "source")
    values: list[tuple[str, Any]] = [(field, getattr(model, field)) for field in fields]
    values += [("note", note) for note in model.notes]
    return [(field, str(value)) for field, value in values if value is not None]
