"""Sweeps of the simulator: every combination of its keywords, one row of summary figures each."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks, scenario_names
from roofline_fast.errors import DoesNotFitError, RooflineError, SpecError, TraceError
from roofline_fast.suggest import choice, unknown
from roofline_fast.sweeps.dataset import DataSet, Dropped, Plan, columns_of

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.traffic.trace import Trace

# Scenarios of one part: seconds of work, so that little is lost with a machine.
SCENARIOS_A_PART = 64
KEEPS = ("feasible", "all", "pareto", "topk")
LIMITS = ("min_gpus", "max_gpus")
NOT_AXES = ("trace", "record", "progress", "percentiles", "trace_options", "path", "format")


def known_axes() -> list[str]:
    """Return the keywords of `simulate` that a sweep can vary, those about the trace included."""
    from roofline_fast.simulation.run import simulate
    from roofline_fast.traffic.workload import words

    names = [*inspect.signature(simulate).parameters, *sorted(words())]
    return [name for name in dict.fromkeys(names) if name not in NOT_AXES]


@functools.cache
def known_figures() -> dict[str, pl.DataType]:
    """Return every figure that a summary can have, and its type, in their order: those of a run that lacks none.

    All parts of a data set have all of them, with nulls where a scenario has none (goodput without objectives), so
    that they are read as one frame.
    """
    import polars as pl

    from roofline_fast.simulation.run import simulate
    from roofline_fast.traffic.trace import Trace

    count = 8
    traffic = Trace(
        arrival_s=[10.0 * place for place in range(count)],
        prompt_tokens=[16] * count,
        output_tokens=[4] * count,
    )
    # A model and a device whose predictions have a band.
    run = simulate(traffic, model="llama-3.1-8b", hw="h100-sxm", slo="ttft:500")
    figures: dict[str, pl.DataType] = {}
    for name, value in run.summary.items():
        figures[name] = pl.Series([value]).dtype
        if name == "slo_percentiles_met":
            # What requests with deadlines of their own add.
            figures |= {
                "deadlines": pl.Int64(),
                "deadlines_missed": pl.Int64(),
                "deadline_attainment": pl.Float64(),
            }
    return figures


@dataclass(frozen=True)
class SimulateRun:
    """Every combination of some keywords of `simulate`, replaying one trace.

    Attributes
    ----------
    trace : path or Trace, optional
        The traffic; generated where the axes say how.
    axes : mapping
        Keywords of `simulate`, each one value or a list of values.
    keep : {"feasible", "all", "pareto", "topk"}
        Scenarios that could be simulated; every one, with the reason why one could not; those that no other
        beats in every objective; the best `top`.
    objectives : sequence of str
        Summary figures that ``pareto`` weighs against each other, or the one that ``topk`` ranks by; ``max:``
        or ``min:`` before the name says which way is better where that is not plain.
    top : int
        How many ``topk`` keeps.
    figures : sequence of str, optional
        Summary figures of a row; all unless said.
    limits : mapping
        ``min_gpus`` and ``max_gpus``: scenarios beyond them are dropped before they are simulated.
    points_a_part : int
        Scenarios of one part of a data set.
    threads : int, optional
        Scenarios simulated at once, never more than there are cores; as many unless said.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> from roofline_fast.sweeps.simulations import SimulateRun
    >>> trace = rf.Trace(arrival_s=[0.0, 0.1], prompt_tokens=[100, 200], output_tokens=[10, 20])
    >>> run = SimulateRun(trace, {"hw": ["h100-sxm", "l40s"], "model": "llama-3.1-8b", "tp": [1, 2]})
    >>> rows, dropped = run.read(0, run.points)
    >>> rows.select("hw", "tp", "completed").rows()
    [('h100-sxm', 1, 2), ('h100-sxm', 2, 2), ('l40s', 1, 2), ('l40s', 2, 2)]
    """

    trace: str | PathLike[str] | Trace | None
    axes: Mapping[str, Any]
    keep: str = "feasible"
    objectives: tuple[str, ...] = ()
    top: int = 10
    figures: tuple[str, ...] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    points_a_part: int = SCENARIOS_A_PART
    threads: int | None = None
    _values: dict[str, list[Any]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = known_axes()
        values = {}
        for name, given in self.axes.items():
            if name not in known:
                raise unknown("axis", name, known)
            values[name] = list(given) if isinstance(given, list | tuple | range) else [given]
            if not values[name]:
                hint = "give at least one value, or leave the axis out"
                raise SpecError(f"{name} must have values: none", field=name, hint=hint)
        if "hw" not in values:
            raise SpecError("hw must be given, as an axis of one or more values", field="hw")
        choice("keep", self.keep, KEEPS)
        _check_kinds(values)
        scenario_names.check(values)
        checks.positive(threads=self.threads)
        for name in self.limits:
            choice("limit", name, LIMITS)
        checks.limits(self.limits)
        for name in self.figures or ():
            choice("figure", name, known_figures())
        if self.picks:
            import polars as pl

            for name in self._ranked:
                choice("figure", name, known_figures())

            # Refuses objectives that say no direction, before any work is done.
            nothing = pl.Series([], dtype=pl.Float64)
            columns = dict.fromkeys(self._ranked, nothing)
            _core.Space.pick(columns, self.keep, list(self.objectives), self.top)
        object.__setattr__(self, "_values", {name: values[name] for name in known if name in values})

    @property
    def points(self) -> int:
        """How many scenarios there are."""
        count = 1
        for values in self._values.values():
            count *= len(values)
        return count

    @property
    def columns(self) -> list[str]:
        """Its axes, in the order of `simulate`, whatever the order given: the last one changes fastest."""
        return list(self._values)

    @property
    def picks(self) -> bool:
        """Whether only the best rows are kept."""
        return self.keep in ("pareto", "topk")

    @property
    def _ranked(self) -> list[str]:
        return [objective.rpartition(":")[2].strip() for objective in self.objectives]

    def pick(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the best of some rows."""
        if rows.is_empty():
            return rows
        columns = columns_of(rows, self.objectives)
        return rows[_core.Space.pick(columns, self.keep, list(self.objectives), self.top)]

    @property
    def varied(self) -> dict[str, list[Any]]:
        """Its axes of more than one value, in the order of columns."""
        return {name: values for name, values in self._values.items() if len(values) > 1}

    def scenario(self, point: int) -> dict[str, Any]:
        """Return the keywords of a scenario."""
        keywords = {}
        for name, values in reversed(self._values.items()):
            point, place = divmod(point, len(values))
            keywords[name] = values[place]
        return dict(reversed(keywords.items()))

    def read(self, start: int, stop: int) -> tuple[pl.DataFrame, Dropped]:
        """Simulate scenarios `start` to `stop`; return a row for each, and why others were dropped."""
        import polars as pl

        scenarios = [self.scenario(point) for point in range(start, stop)]
        trace = self._read_once() if scenarios else None
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(min(self.threads or cores, cores)) as pool:
            done = list(pool.map(lambda scenario: _summary(trace, scenario, self.limits), scenarios))
        rows: list[dict[str, Any]] = []
        dropped: dict[str, tuple[int, str]] = {}
        for scenario, (summary, error) in zip(scenarios, done, strict=True):
            shown = {name: _shown(value) for name, value in scenario.items()}
            if error is not None:
                reason = _reason(error)
                # Some errors begin with what must hold, which the reason has said.
                first = str(error).splitlines()[0]
                value = first.removeprefix(f"{reason}: ")
                count, example = dropped.get(reason, (0, first if value == first else f"it is {value}"))
                dropped[reason] = (count + 1, example)
                if self.keep == "all":
                    rows.append({**shown, "reason": reason})
                continue
            rows.append({**shown, **summary})
        reasons = [(reason, count, example) for reason, (count, example) in sorted(dropped.items())]
        frame = pl.DataFrame(rows, schema=self.schema, strict=False)
        return self.pick(frame) if self.picks else frame, reasons

    @functools.cached_property
    def schema(self) -> pl.Schema:
        """Its columns and their types, those of every part: axes, why a scenario was not possible, figures."""
        import polars as pl

        types: dict[str, pl.DataType] = {}
        for name, values in self._values.items():
            kind = pl.Series([_shown(value) for value in values], strict=False).dtype
            types[name] = pl.String() if kind == pl.Null else kind
        if self.keep == "all":
            types["reason"] = pl.String()
        asked = None if self.figures is None else {*self.figures, *(self._ranked if self.picks else ())}
        figures = known_figures().items()
        types |= {name: kind for name, kind in figures if asked is None or name in asked}
        return pl.Schema(types)

    def _read_once(self) -> str | PathLike[str] | Trace | None:
        """Return the trace, read where no axis changes how it is read."""
        from roofline_fast.traffic.trace import Trace
        from roofline_fast.traffic.workload import words

        if isinstance(self.trace, str | PathLike) and not words() & self._values.keys():
            return Trace.read(self.trace)
        return self.trace

    def compute(self, part: int) -> tuple[pl.DataFrame, Dropped]:
        """Return the rows of a part, and why others were dropped."""
        return self.read(*self.plan.range(part))

    @property
    def plan(self) -> Plan:
        """How its scenarios are cut into parts, named by content."""
        contents = {
            "axes": {name: [_content(value) for value in values] for name, values in self._values.items()},
            "trace": _content(self.trace),
            **self._asked(),
        }
        return Plan(contents, self.points, self.points_a_part)

    def data_set(self, folder: Path, *, fresh: bool = False) -> DataSet:
        """Return the folder of its parts."""
        return DataSet(folder, self.plan, fresh=fresh)

    def recipe(self) -> dict[str, Any]:
        """Return plain values from which another process makes the same run."""
        if not isinstance(self.trace, str | PathLike | None):
            raise SpecError("trace must be a file to be simulated elsewhere", field="trace")
        trace = None if self.trace is None else str(Path(self.trace).resolve())
        return {
            "trace": trace,
            "axes": self._values,
            **self._asked(),
            "points_a_part": self.points_a_part,
        }

    def _asked(self) -> dict[str, Any]:
        return {
            "keep": self.keep,
            "objectives": list(self.objectives),
            "top": self.top,
            "figures": None if self.figures is None else list(self.figures),
            "limits": dict(self.limits),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> SimulateRun:
        """Make the run that `recipe` describes."""
        figures = recipe["figures"]
        return cls(
            recipe["trace"],
            recipe["axes"],
            keep=recipe["keep"],
            objectives=tuple(recipe["objectives"]),
            top=recipe["top"],
            figures=None if figures is None else tuple(figures),
            limits=recipe["limits"],
            points_a_part=recipe["points_a_part"],
        )


# How values of a keyword are checked, by the kind that its signature names.
_KINDS = {"bool": checks.switches, "int": checks.counts, "float": checks.numbers, "str": checks.texts}


def _check_kinds(values: Mapping[str, list[Any]]) -> None:
    """Refuse values that are of no kind their keyword takes: they are mistakes, and no scenarios without room."""
    from roofline_fast.simulation.run import simulate

    parameters = inspect.signature(simulate).parameters
    for name, given in values.items():
        kind = str(parameters[name].annotation) if name in parameters else ""
        check = _KINDS.get(kind.removesuffix(" | None"))
        for value in given:
            if check is not None and value is None and not kind.endswith(" | None"):
                raise SpecError(f"{name} must be given in every scenario: None", field=name)
            if check is not None and value is not None:
                check(**{name: value})


def _reason(error: RooflineError) -> str:
    """Return under what a scenario is counted that is left out."""
    if error.field == "gpus":
        return str(error).partition(":")[0]
    field_or_kind = "memory" if isinstance(error, DoesNotFitError) else error.field or "scenario"
    return f"{field_or_kind} is not possible"


def _within(scenario: Mapping[str, Any], limits: Mapping[str, int]) -> None:
    """Refuse scenarios of fewer or more GPUs than the limits say."""
    if not limits:
        return
    given = {name: scenario[name] for name in ("tp", "pp", "dp", "ep") if name in scenario}
    checks.counts(**given)
    gpus = _core.Layout(**given).gpus
    for name, side, broken in (
        ("max_gpus", "most", gpus > limits.get("max_gpus", gpus)),
        ("min_gpus", "least", gpus < limits.get("min_gpus", gpus)),
    ):
        if broken:
            message = f"gpus must be at {side} {limits[name]}: {gpus}"
            raise SpecError(message, field="gpus", value=str(gpus))


def _summary(
    trace: str | PathLike[str] | Trace | None, scenario: Mapping[str, Any], limits: Mapping[str, int]
) -> tuple[dict[str, Any], RooflineError | None]:
    """Return the summary of a scenario, or why it is not possible."""
    from roofline_fast.simulation.run import simulate

    try:
        _within(scenario, limits)
        return simulate(trace, **scenario).summary, None
    except TraceError:
        raise  # what is wrong with the traffic is wrong with every scenario
    except RooflineError as error:
        return {}, error


def _shown(value: Any) -> Any:
    """Return a value as a cell of a frame."""
    return value if isinstance(value, int | float | str | bool | None) else getattr(value, "name", str(value))


def _content(value: Any) -> Any:
    """Return what a value says, files by their content."""
    if isinstance(value, str | PathLike) and Path(value).is_file():
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()
    compiled = getattr(value, "requests", None)
    if compiled is not None and hasattr(compiled, "hash_rows"):
        return str(compiled.hash_rows().sum())
    return _shown(value)
