"""Two runs of served traffic side by side, simulated or measured, and where the difference of a request's time is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from roofline_fast.served_sides import Side

if TYPE_CHECKING:
    import polars as pl

# What is set side by side, in this order, where both know it.
LATENCIES = ("ttft", "tpot", "itl", "e2el")
RATES = ("request_throughput", "output_throughput", "total_token_throughput", "request_goodput")
COUNTS = ("completed", "duration")
# Where a request spends its time, one phase after the other; measured files know the first token alone.
PHASES = ("queue", "prefill", "decode", "preempted", "outside")


class ServedComparison:
    """Two runs and what lies between them.

    `metrics` sets them side by side; `waterfall` divides the difference of a request's mean time by phase, `by_op`
    and `by_resource` that of the engine's time. Each adds up to the difference it divides.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self.a = a
        self.b = b

    @cached_property
    def metrics(self) -> pl.DataFrame:
        """One row a metric that both know: ``metric, a, b, delta, change, low, high, within``.

        Latencies are in ms, `change` is the share of `a`; `low` and `high` are the 80 % band of the prediction where
        the other side was measured, and `within` says whether the measurement lies in it.
        """
        import polars as pl

        rows = [self._metric(name) for name in self._names()]
        number = dict.fromkeys(("a", "b", "delta", "change", "low", "high"), pl.Float64)
        return pl.DataFrame(rows, schema={"metric": pl.String, **number, "within": pl.Boolean})

    def _names(self) -> list[str]:
        ranks = ("mean", "median", *sorted(self._ranks(), key=lambda rank: float(rank[1:])))
        names = [f"{rank}_{metric}_ms" for metric in LATENCIES for rank in ranks]
        known = [name for name in (*names, *RATES, *COUNTS) if _number(self.a, name) is not None]
        return [name for name in known if _number(self.b, name) is not None]

    def _ranks(self) -> set[str]:
        names = [name.split("_") for name in self.a.summary if name.endswith("_ms")]
        found = {parts[0] for parts in names if parts[0][:1] == "p" and parts[1:2] == ["ttft"]}
        return {rank for rank in found if rank[1:].replace(".", "", 1).isdigit()}

    def _metric(self, name: str) -> dict[str, Any]:
        a, b = _number(self.a, name) or 0.0, _number(self.b, name) or 0.0
        low, high = self._band(name)
        measured = a if self.a.measured else b
        return {
            "metric": name,
            "a": a,
            "b": b,
            "delta": b - a,
            "change": (b - a) / a if a else None,
            "low": low,
            "high": high,
            "within": None if low is None or high is None else low <= measured <= high,
        }

    def _band(self, name: str) -> tuple[float | None, float | None]:
        if self.a.measured == self.b.measured:
            return None, None
        predicted, stem = self.b if self.a.measured else self.a, name.removesuffix("_ms")
        return _number(predicted, f"{stem}_low_ms"), _number(predicted, f"{stem}_high_ms")

    @cached_property
    def waterfall(self) -> pl.DataFrame:
        """The mean request's time by phase, largest change first: ``phase, a_s, b_s, delta_s, share``.

        Between simulations queue, prefill, decode, preempted and outside (the engine); where one side was measured, up
        to the first token and after it. They add up to the difference of the mean E2E latencies; empty where one side
        does not know its own.
        """
        parts = self._phases()
        return _rows("phase", {name: (a / 1e3, b / 1e3) for name, (a, b) in parts.items()})

    def _phases(self) -> dict[str, tuple[float, float]]:
        sides = (self.a, self.b)
        whole = [_number(side, "mean_e2el_ms") for side in sides]
        if None in whole:
            return {}
        known = all(_number(side, f"mean_{phase}_ms") is not None for side in sides for phase in PHASES)
        if known:
            by_phase = [[_number(side, f"mean_{phase}_ms") or 0.0 for phase in PHASES] for side in sides]
            return dict(zip(PHASES, zip(*by_phase, strict=True), strict=True))
        first = [_number(side, "mean_ttft_ms") or 0.0 for side in sides]
        rest = [(end or 0.0) - start for end, start in zip(whole, first, strict=True)]
        return {"to the first token": (first[0], first[1]), "after it": (rest[0], rest[1])}

    @cached_property
    def by_resource(self) -> pl.DataFrame:
        """The engine's seconds by what bound it, idle ones included: ``resource, a_s, b_s, delta_s, share``.

        Empty where one side was measured: nothing tells what bound it.
        """
        return _rows("resource", _paired(self.a.bounds, self.b.bounds))

    @cached_property
    def by_op(self) -> pl.DataFrame:
        """The same seconds by operator: ``op, a_s, b_s, delta_s, share``."""
        return _rows("op", _paired(self.a.operators, self.b.operators))

    @property
    def a_s(self) -> float | None:
        """Mean E2E latency of `a`, seconds; ``None`` where it is not known."""
        return _seconds(self.a)

    @property
    def b_s(self) -> float | None:
        """Mean E2E latency of `b`, seconds; ``None`` where it is not known."""
        return _seconds(self.b)

    @property
    def delta_s(self) -> float | None:
        """What a request of `b` takes more, on average."""
        return None if self.a_s is None or self.b_s is None else self.b_s - self.a_s

    @property
    def notes(self) -> list[str]:
        """Sentences about what was assumed, of both."""
        return list(dict.fromkeys([*self.a.notes, *self.b.notes]))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, texts, lists and dictionaries (``--format json``)."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "a_s": self.a_s,
            "b_s": self.b_s,
            "delta_s": self.delta_s,
            "metrics": self.metrics.to_dicts(),
            "waterfall": self.waterfall.to_dicts(),
            "by_op": self.by_op.to_dicts(),
            "by_resource": self.by_resource.to_dicts(),
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        return f"ServedComparison({self.a.title!r}, {self.b.title!r})"


def _number(side: Side, name: str) -> float | None:
    value = side.summary.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _seconds(side: Side) -> float | None:
    latency = _number(side, "mean_e2el_ms")
    return None if latency is None else latency / 1e3


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the seconds of both by name; nothing where one of them does not know its own."""
    if not a or not b:
        return {}
    found = {name: (a.get(name, 0.0), b.get(name, 0.0)) for name in {**a, **b}}
    return {name: pair for name, pair in found.items() if any(pair)}


def _rows(what: str, pieces: Mapping[str, tuple[float, float]]) -> pl.DataFrame:
    import polars as pl

    whole = sum(b - a for a, b in pieces.values())
    largest_first = sorted(pieces.items(), key=lambda piece: -abs(piece[1][1] - piece[1][0]))
    rows = [
        {what: name, "a_s": a, "b_s": b, "delta_s": b - a, "share": (b - a) / whole if whole else 0.0}
        for name, (a, b) in largest_first
    ]
    number = dict.fromkeys(("a_s", "b_s", "delta_s", "share"), pl.Float64)
    return pl.DataFrame(rows, schema={what: pl.String, **number})
