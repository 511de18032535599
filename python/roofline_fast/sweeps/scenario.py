"""Scenario files of sweeps: every mistake at once, and a schema for editors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roofline_fast import _core, scenario_names
from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.json_text import parsed
from roofline_fast.suggest import nearest

Count = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Text = Annotated[str, Field(min_length=1)]
Counts = Annotated[
    Count | Text | list[Count | Text], Field(description="Values, or a text such as `1:1024:x2`.")
]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Numbers = Number | Text | list[Number]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Text | list[Text]
Flag = Annotated[bool, Field(strict=True)]
# Limits that are no results.
LIMITS = ("min_gpus", "max_gpus", "within_context")


class Axes(BaseModel):
    """What is varied: each combination of these values is a point."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Names
    hw: Names
    tp: Counts | None = None
    pp: Counts | None = None
    dp: Counts | None = None
    ep: Counts | None = None
    quantization: Names | None = None
    kv_cache_dtype: Names | None = None
    w_bits: Counts | None = None
    a_bits: Counts | None = None
    techniques: Text | list[Text | list[Text]] | None = None
    spec_method: Names | None = None
    num_speculative_tokens: Counts | None = None
    spec_acceptance: Names | Share | list[Share | Text] | None = None
    fusion: Names | None = None
    flash_attention: Flag | list[Flag] | None = None
    overlap: Share | list[Share] | None = None
    compute_scale: Numbers | None = None
    bandwidth_scale: Numbers | None = None
    link_scale: Numbers | None = None
    engine: Names | None = None
    gpu_memory_utilization: Share | list[Share] | None = None
    block_size: Counts | None = None
    max_num_seqs: Counts | None = None
    max_num_batched_tokens: Counts | None = None
    mode: Names | None = None
    phase: Names | None = None
    chunk: Counts | None = None
    prefix_len: Counts | None = None
    batch_size: Counts | None = None
    output_len: Counts | None = None
    input_len: Counts | None = None


class Kept(BaseModel):
    """What is kept of the points of a sweep, and how it is written."""

    model_config = ConfigDict(extra="forbid")

    keep: Literal["feasible", "all", "pareto", "topk"] = "feasible"
    objectives: list[Text] = Field(
        default_factory=list,
        description="Results (of a simulation its summary figures) to weigh, best way known or min:/max:.",
    )
    top: Annotated[int, Field(ge=1, strict=True)] = 10
    columns: list[Text] | None = Field(
        default=None,
        description="Results (of a simulation its summary figures) that are written; all unless said.",
    )
    points_a_part: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="Points of one Parquet part."
    )


class Scenario(Kept):
    """A sweep of the cost model: axes, what points must hold, and what is kept of them."""

    axes: Axes
    limits: dict[str, int | float | bool] = Field(
        default_factory=dict,
        description="min_gpus, max_gpus, within_context, and max_ or min_ before a result (max_ttft_s).",
    )


class SimulateScenario(Kept):
    """A sweep of the simulator: any keyword of `simulate` is an axis."""

    trace: Text | None = Field(default=None, description="The trace that every point replays.")
    simulate: Literal[True] = Field(
        default=True,
        description="Says without a trace that points are simulated: axes say how traffic is made.",
    )
    axes: dict[str, Any] = Field(description="Keywords of simulate, each one value or a list.")
    limits: dict[Literal["min_gpus", "max_gpus"], Annotated[int, Field(ge=1, strict=True)]] = Field(
        default_factory=dict, description="Fewest and most GPUs of a scenario."
    )


def read(path: Path, field: str = "SPACE") -> dict[str, Any]:
    """Return the content of a scenario file, TOML or JSON by its suffix; `field` is who names it.

    Raises
    ------
    SpecError
        A file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "name a scenario file, or give its settings as flags (`--tp 2`)"
        raise MissingFileError(f"{path} must exist", field=field, value=str(path), hint=hint) from None
    except UnicodeDecodeError as why:
        raise SpecError(f"{path} must be text: {why.reason}", field=field, value=str(path)) from None
    try:
        content = parsed(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as why:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise SpecError(f"{path} must be {kind}: {why}", field=field, value=str(path)) from None
    if not isinstance(content, dict):
        raise SpecError(
            f"{path} must hold named values: {type(content).__name__}", field=field, value=str(path)
        )
    return content


def checked(content: dict[str, Any], origin: str) -> Scenario | SimulateScenario:
    """Return the scenario a file describes.

    Raises
    ------
    SpecError
        All its mistakes at once, each with its path.
    """
    kind = SimulateScenario if {"trace", "simulate"} & content.keys() else Scenario
    mistakes, scenario = [], None
    try:
        scenario = kind.model_validate(content)
    except ValidationError as why:
        mistakes += _mistakes(why, kind)
    # Of a value that is no name at all it need not be told that nothing has this name.
    told = {mistake.partition(" ")[0] for mistake in mistakes}
    mistakes += [mistake for mistake in _names(content, kind) if mistake.partition(" ")[0] not in told]
    if scenario is None or mistakes:
        raise several(
            origin, mistakes, "SPACE", "`roofline-fast sweep --schema` prints what such a file may hold"
        )
    return scenario


def several(origin: str, mistakes: list[str], field: str, hint: str) -> SpecError:
    """Return the error that tells all mistakes of a file, each in a line."""
    count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
    message = f"{origin} has {count}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes)
    return SpecError(message, field=field, value=origin, hint=hint)


def _names(content: dict[str, Any], kind: type[BaseModel]) -> list[str]:
    """Return what is wrong with names of models, devices, formats, techniques, axes, limits and results."""
    axes = content.get("axes")
    axes = axes if isinstance(axes, dict) else {}
    found = list(scenario_names.mistakes(axes, "axes."))
    if kind is SimulateScenario:
        from roofline_fast.sweeps.simulations import known_axes

        known = known_axes()
        return [
            *found,
            *(scenario_names.not_known(f"axes.{name}", name, known) for name in axes if name not in known),
        ]
    found += _unread(axes)
    results = _core.Space.results()
    limits = content.get("limits")
    known = [*LIMITS, *(f"{end}_{name}" for end in ("max", "min") for name in results), *results]
    for name in limits if isinstance(limits, dict) else ():
        if name not in known:
            found.append(scenario_names.not_known(f"limits.{name}", name, known))
    found += scenario_names.of_names("columns", content.get("columns"), "column", results)
    objectives = content.get("objectives")
    if isinstance(objectives, list):
        plain = [name.rpartition(":")[2].strip() for name in objectives if isinstance(name, str)]
        found += scenario_names.of_names("objectives", plain, "column", results)
    return found


def _unread(axes: dict[str, Any]) -> list[str]:
    """Return what is wrong with texts that stand for numbers (``1:64:x2``)."""
    from roofline_fast.sweeps import axes as sweep_axes

    found = []
    for name, given in axes.items():
        values = given if isinstance(given, list) else [given]
        for place, value in enumerate(values):
            if name in (*sweep_axes.COUNTS, *sweep_axes.NUMBERS) and isinstance(value, str):
                where = f"{name}[{place}]" if isinstance(given, list) else name
                try:
                    sweep_axes.values(name, value)
                except SpecError as error:
                    said = str(error).replace(name, f"axes.{where}", 1)
                    found.append(f"{said} ({error.hint})" if error.hint else said)
    return found


def _mistakes(why: ValidationError, kind: type[BaseModel]) -> list[str]:
    """Return each mistake once, with its path and, for unknown names, the nearest."""
    found: dict[str, str] = {}
    for error in why.errors():
        place = list(error["loc"])
        of_axis = len(place) > 1 and place[0] == "axes"
        of_limit = len(place) > 1 and place[0] == "limits"
        # What follows an axis or a limit in a path are the kinds of values that it might have had.
        path = _path(place[:2] if of_axis or of_limit else place)
        if error["type"] == "extra_forbidden":
            text = _unknown_key(path, str(place[-1]), kind, of_axis=of_axis)
        elif error["type"] == "missing":
            text = f"{path} must be given"
        elif of_axis:
            text = f"{path} must be {_expected(str(place[1]))}: {_shown(error['input'])}"
        elif len(place) > 2 and of_limit:
            text = f"{path} must be a number: {_shown(error['input'])}"
        else:
            said = error["msg"][:1].lower() + error["msg"][1:]
            text = f"{path}: {said.replace('input should', 'must')}: {_shown(error['input'])}"
        found.setdefault(path, text)
    # Axes first, as a scenario has them.
    return sorted(found.values(), key=lambda told: not told.startswith("axes"))


def _unknown_key(path: str, key: str, kind: type[BaseModel], *, of_axis: bool) -> str:
    """Return what is wrong with a key of a file: it is an axis or a limit in the wrong place, or nothing known."""
    if not of_axis and key in Axes.model_fields:
        return f"{path} must stand among the axes: write it under [axes]"
    if not of_axis and key.startswith(("min_", "max_")):
        return f"{path} must stand among the limits: write it under [limits]"
    known = Axes.model_fields if of_axis else kind.model_fields
    return f"{path} is not known (nearest: {', '.join(nearest(key, known))})"


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _expected(axis: str) -> str:
    from roofline_fast.sweeps import axes as sweep_axes

    if axis in sweep_axes.COUNTS:
        return "whole numbers from 0 up, or a text such as `1:1024:x2`"
    if axis in ("overlap", "gpu_memory_utilization", "spec_acceptance"):
        return "numbers from 0 to 1"
    if axis in sweep_axes.NUMBERS:
        return "numbers above 0"
    return "true or false" if axis in sweep_axes.FLAGS else "names"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of scenario files, for editors."""
    both = TypeAdapter(Scenario | SimulateScenario).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of roofline-fast",
        **{name: value for name, value in both.items() if name != "title"},
    }


def axes_of(scenario: Scenario) -> dict[str, Any]:
    """Return the axes that a scenario gives."""
    known = _core.Space.settings()
    given = scenario.axes.model_dump(exclude_none=True)
    return {name: given[name] for name in known if name in given}
