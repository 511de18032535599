"""Traffic of any length, drawn as it is served: what stands for a trace that memory need not hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

from roofline_fast import _core
from roofline_fast.errors import SpecError
from roofline_fast.traffic.trace import Trace

if TYPE_CHECKING:
    import polars as pl

# Requests from which traffic is drawn as it is served where nothing needs each of them.
MANY = 10_000_000


class Streamed(Trace):
    """Generated requests of which only the first are known before they are served."""

    def __init__(self, traffic: Mapping[str, Any]) -> None:
        from roofline_fast.traffic.kinds import expanded
        from roofline_fast.traffic.workload import texts

        self.compiled, assumed = _core.Trace.draw(texts(expanded(dict(traffic))))
        self.made, self.assumed = "generated", tuple(assumed)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """What the first requests are like, for as many as there will be."""
        return self._all(super().metrics)

    @cached_property
    def outline(self) -> dict[str, float | None]:
        """What a line about them says, as far as the first tell."""
        return self._all(super().outline)

    def _all(self, first: Mapping[str, float | None]) -> dict[str, float | None]:
        rate, count = first["rate"], float(len(self))
        return {**first, "requests": count, "span": (count - 1) / rate if rate else first["span"]}

    @property
    def requests(self) -> pl.DataFrame:
        """Refuse: they are not all known."""
        self._refuse("requests")

    def inspect(self) -> pl.DataFrame:
        """Refuse: they are not all known."""
        self._refuse("inspect")

    def windows(self, window_s: float | None = None) -> pl.DataFrame:
        """Refuse: they are not all known."""
        self._refuse("windows")

    def scaled(self, **_: Any) -> Trace:
        """Refuse: they are not all known."""
        self._refuse("scaled")

    def arriving(self, **_: Any) -> Trace:
        """Refuse: they are not all known."""
        self._refuse("arriving")

    def write(self, path: str | PathLike[str], *, format: str | None = None) -> list[str]:  # noqa: A002
        """Refuse: they are not all known."""
        self._refuse("write")

    def _refuse(self, asked: str) -> NoReturn:
        message = f"trace must be all in memory for {asked}: drawn as it is served"
        hint = "Trace.generate draws it at once, Trace.generate_to writes it as it is drawn"
        raise SpecError(message, field="trace", value=asked, hint=hint)
