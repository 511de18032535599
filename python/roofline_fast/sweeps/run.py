"""A sweep to be carried out: what is asked of which points, part by part, on this machine or on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core
from roofline_fast.errors import SpecError
from roofline_fast.suggest import choice
from roofline_fast.sweeps.dataset import DataSet, Dropped, Plan, columns_of
from roofline_fast.sweeps.space import KEEPS, Space

if TYPE_CHECKING:
    import polars as pl

# Points of a part unless said: a few megabytes of Parquet, a fraction of a second of work.
POINTS_A_PART = 1 << 18


@dataclass(frozen=True)
class Run:
    """Axes and what is asked of their points.

    Attributes
    ----------
    space : Space
        The axes.
    keep, objectives, top, limits
        As for `sweep`.
    columns : list of str, optional
        Results that are returned; all unless said.
    points_a_part : int
        Points of one part of a data set.
    threads : int, optional
        Threads to use, never more than there are cores; as many unless said.
    """

    space: Space
    keep: str = "feasible"
    objectives: tuple[str, ...] = ()
    top: int = 10
    limits: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    points_a_part: int = POINTS_A_PART
    threads: int | None = None

    def __post_init__(self) -> None:
        choice("keep", self.keep, KEEPS)
        for name in self.columns or ():
            choice("column", name, _core.Space.results())
        # Refuses objectives and limits that are not possible before any work is done.
        self.read(0, 0)

    @property
    def points(self) -> int:
        """How many points there are."""
        return self.space.points

    @property
    def varied(self) -> dict[str, list[Any]]:
        """Its axes of more than one value, in the order of columns."""
        axes = self.space.axes
        return {name: axes[name] for name in self.space.columns if len(axes[name]) > 1}

    @property
    def picks(self) -> bool:
        """Whether only the best rows are kept."""
        return self.keep in ("pareto", "topk")

    @property
    def _results(self) -> list[str] | None:
        if self.columns is None:
            return None
        objectives = {name.rpartition(":")[2] for name in self.objectives} if self.picks else set()
        return [name for name in _core.Space.results() if name in {*self.columns, *objectives}]

    def read(
        self, start: int, stop: int, progress: _core.Progress | None = None
    ) -> tuple[pl.DataFrame, Dropped]:
        """Return the rows that points `start` to `stop` leave, and what was dropped."""
        return self.space.read(
            start,
            stop,
            results=self._results,
            keep=self.keep,
            objectives=self.objectives,
            top=self.top,
            limits=self.limits,
            threads=self.threads,
            progress=progress,
        )

    def compute(self, part: int) -> tuple[pl.DataFrame, Dropped]:
        """Return the rows of a part, and what was dropped."""
        return self.read(*self.plan.range(part))

    def pick(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the best of the rows that parts kept."""
        columns = columns_of(rows, self.objectives)
        return rows[_core.Space.pick(columns, self.keep, list(self.objectives), self.top)]

    @property
    def plan(self) -> Plan:
        """How its points are cut into parts, named by content."""
        asked = {
            "keep": self.keep,
            "objectives": list(self.objectives),
            "top": self.top if self.keep == "topk" else None,
            "limits": dict(self.limits),
            "columns": self._results,
        }
        return Plan({**self.space.contents(), **asked}, self.space.points, self.points_a_part)

    def data_set(self, folder: Path, *, fresh: bool = False) -> DataSet:
        """Return the folder of its parts."""
        return DataSet(folder, self.plan, fresh=fresh)

    def recipe(self) -> dict[str, Any]:
        """Return plain values from which another process makes the same run."""
        return {
            "space": self.space.recipe(),
            "keep": self.keep,
            "objectives": list(self.objectives),
            "top": self.top,
            "limits": dict(self.limits),
            "columns": None if self.columns is None else list(self.columns),
            "points_a_part": self.points_a_part,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Run:
        """Make the run that `recipe` describes."""
        columns = recipe["columns"]
        return cls(
            Space.from_recipe(recipe["space"]),
            keep=recipe["keep"],
            objectives=tuple(recipe["objectives"]),
            top=recipe["top"],
            limits=recipe["limits"],
            columns=None if columns is None else tuple(columns),
            points_a_part=recipe["points_a_part"],
        )


def limits_of(given: Mapping[str, Any], slo: str | None) -> dict[str, Any]:
    """Return limits by the names that results have, objectives in ms among them.

    Raises
    ------
    SpecError
        An objective that is not read as ``metric:milliseconds``.
    """
    limits = dict(given)
    for part in (slo or "").replace(",", " ").split():
        metric, colon, text = part.partition(":")
        try:
            # As written: 0.1 ms is 0.0001 s and nothing beside it.
            seconds = float(Decimal(text.removesuffix("ms")) / 1000)
        except ArithmeticError:
            colon = ""
            seconds = 0.0
        if not colon:
            message = f"--slo must read `metric:milliseconds`: {part}"
            raise SpecError(message, field="--slo", value=part, hint='for example "ttft:500 tpot:50"')
        choice("latency metric", metric, ("ttft", "tpot", "e2e"))
        limits[f"max_{metric}_s"] = seconds
    return limits
