"""What came of a simulation: figures, tables and files."""

from __future__ import annotations

import functools
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.atomic_file import aside
from roofline_fast.frames import frame
from roofline_fast.hardware import Hardware
from roofline_fast.model import Model
from roofline_fast.suggest import choice
from roofline_fast.traffic.trace import Trace

if TYPE_CHECKING:
    import polars as pl


class Simulation:
    """What came of a simulation.

    Attributes
    ----------
    summary : dict
        Figures under the names of `vllm bench serve`'s JSON (``mean_ttft_ms``, ``p99_itl_ms``,
        ``request_throughput``, …), and what no client can see (``prefill_time_share``, ``kv_peak``,
        ``preemptions``, …).
    inputs : dict
        What was asked, with what was assumed where nothing was said.
    trace : Trace
        The traffic as it was sent.
    model, hardware : Model, Hardware
        What was served, on what.
    """

    def __init__(
        self,
        served: _core.Simulation,
        serve: functools.partial[_core.Simulation],
        summary: dict[str, Any],
        inputs: dict[str, Any],
        notes: list[str],
        trace: Trace,
        model: Model,
        hardware: Hardware,
        deployment: _core.Deployment,
        server: _core.Engine,
    ) -> None:
        self._served = served
        self._serve = serve
        self._notes = notes
        self.summary = summary
        self.inputs = inputs
        self.trace = trace
        self.model = model
        self.hardware = hardware
        self.deployment = deployment
        self.server = server

    @cached_property
    def requests(self) -> pl.DataFrame:
        """One row a request, in order of arrival, ties in that of the trace; times in seconds since the trace began.

        ``request_id, arrival_s, first_scheduled_s, first_token_s, finish_s, prompt_tokens, output_tokens,
        cached_tokens, preemptions, ttft_s, tpot_s, e2e_s, replica, status``, the band of the latencies (``ttft_low_s``,
        ``ttft_high_s``, …) where it is known, ``held_s`` where a client held requests back, and ``deadline_s`` with
        ``deadline`` (``met``, ``missed``) where requests say how soon they must be answered. What did not happen
        is null.
        """
        return frame(self._served.requests)

    @cached_property
    def request_bands(self) -> pl.DataFrame:
        """Each request were every step as short or as long as its band allows, simulated again.

        Queues near saturation answer more strongly than the steps they consist of: `ttft_low_s` and the
        like of `requests` scale times with steps, these columns of the same names do not. Null where no
        error is known.
        """
        import polars as pl

        names = ("ttft", "tpot", "e2e")
        mean = self.summary.get("mean_tpot_ms")
        parts = []
        for end in ("low", "high"):
            bound = self.summary.get(f"mean_tpot_{end}_ms")
            if not mean or bound is None:
                nothing = pl.repeat(None, pl.len(), dtype=pl.Float64)
                parts.append(self.requests.select(nothing.alias(f"{name}_{end}_s") for name in names))
                continue
            deployment = self.deployment.scaled(bound / mean)
            served = self._serve.func(deployment, *self._serve.args[1:], **self._serve.keywords)
            rows = frame(served.requests)
            parts.append(rows.select(pl.col(f"{name}_s").alias(f"{name}_{end}_s") for name in names))
        return pl.concat(parts, how="horizontal")

    @cached_property
    def _recorded(self) -> _core.Simulation:
        """The same simulation with its steps: simulated again, the same to the bit, if they were not kept."""
        return self._serve(record="stretches") if self.inputs["record"] == "summary" else self._served

    @cached_property
    def steps(self) -> pl.DataFrame:
        """Steps: stretches of those that decode alike as one row, unless ``record`` asked for each.

        A stretch has `steps` of them, from `start_s` to `end_s`, and the cause that took most of its time
        as `bound`. With ``record="steps"`` one row a step: times, totals and what is free after scheduling.
        With ``record="decisions"`` also, as lists in batch order, the `request` (its row in `requests`), its
        `tokens`, `context` and `drafts`; who was `admitted` and what it found cached; who was `preempted`
        (a count otherwise) and who `finished`.
        """
        each = self.inputs["record"] in ("steps", "decisions")
        return frame(self._served.steps if each else self._recorded.stretches)

    def timeline(self, interval_s: float = 1.0) -> pl.DataFrame:
        """Return one row for each `interval_s` seconds.

        Requests that `arrived` and `finished`, means of those `running` and `waiting` and of the share of KV
        blocks in use, tokens processed (counted when their step is done) and their rates, and shares of the
        replicas' time by what bound it: ``weights``, ``kv``, ``activations``, ``compute``, ``vector``,
        ``link``, ``launch``, ``unattributed`` (steps priced by a `step_cost`) and ``idle``.

        Examples
        --------
        >>> import roofline_fast as rf
        >>> trace = rf.Trace(arrival_s=[0.0, 0.1], prompt_tokens=[1000, 200], output_tokens=[10, 20])
        >>> run = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm")
        >>> run.timeline()["arrived"].to_list()
        [2]
        """
        checks.numbers(interval_s=interval_s)
        return frame(self._recorded.timeline(interval_s))

    @cached_property
    def request_times(self) -> pl.DataFrame:
        """Where each request's time went, twice over; both add up to its `e2e_s`.

        By phase: `queue_s`, `prefill_s`, `decode_s`, `preempted_s` (from giving way to the next token) and
        `outside_s`. By what bound the engine while the request ran: ``weights_s`` to ``idle_s`` as in
        `timeline`, with `waiting_s` and `outside_s`.
        """
        return frame(self._recorded.times)

    def explain(self, count: int = 5, by: str = "e2e") -> pl.DataFrame:
        """Return the slowest requests that finished: what they waited for, and what bound the engine.

        Parameters
        ----------
        count : int
            How many.
        by : {"e2e", "ttft", "tpot"}
            Which latency is meant.
        """
        checks.counts(count=count)
        checks.texts(by=by)
        return frame(self._recorded.explain(count, by))

    def write_parquet(self, table: str, path: str | PathLike[str], *, interval_s: float = 1.0) -> int:
        """Write a table to a Parquet file, a part at a time, and return how many rows it has.

        The same as writing the frame of that name, which is never whole in memory. The file appears whole or
        not at all.

        Parameters
        ----------
        table : {"requests", "request_times", "steps", "timeline"}
            Which.
        path : str or path
            Where.
        interval_s : float
            Seconds of a row of the timeline.
        """
        choice("table", table, ("requests", "request_times", "steps", "timeline"))
        checks.numbers(interval_s=interval_s)
        each = self.inputs["record"] in ("steps", "decisions")
        kept = table == "requests" or (table == "steps" and each)
        names = {"request_times": "times", "steps": "steps" if each else "stretches"}
        served = self._served if kept else self._recorded
        with aside(Path(path)) as part:
            return served.write_parquet(names.get(table, table), part, interval_s)

    def write_perfetto(self, path: str | PathLike[str]) -> None:
        """Write a trace to open in ui.perfetto.dev: requests as tracks, the engine's steps, counters."""
        self._recorded.write_perfetto(path)

    @property
    def settings(self) -> dict[str, Any]:
        """The engine's settings as they were, under vLLM's names."""
        return dict(self._served.settings)

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds of all replicas by what bounded them: causes as in `timeline`, idle ones included.

        They add up to the replicas' time from the first arrival to the last token. Memory-bound time is divided
        into weights, KV cache and activations by bytes.
        """
        return dict(self._served.bounds)

    @property
    def operators(self) -> dict[str, float]:
        """The same seconds by operator, the parts a technique makes of one together; ``encode`` is a vision tower."""
        return dict(self._served.operators)

    @property
    def band(self) -> tuple[float, float] | None:
        """By which factors all steps may be shorter or longer (P10, P90); ``None`` where not known."""
        return self._served.band

    @property
    def source(self) -> str:
        """Where step times come from (``datasheet``, ``fitted(h100-sxm)``, or the `step_cost`)."""
        return self.inputs["step_cost"] or self.deployment.source

    @property
    def notes(self) -> list[str]:
        """Sentences about what was assumed, and what reading the trace repaired."""
        return [*self._notes, *self._served.notes, *self.trace.information, *self.trace.warnings]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary and what it was made from as one dictionary: what ``--format json`` prints."""
        return {
            **self.summary,
            **self.inputs,
            "source": self.source,
            "bounds_s": self.bounds,
            "operators_s": self.operators,
            "settings": self.settings,
            "notes": [*self._notes, *self._served.notes],
            "trace_notes": [*self.trace.information, *self.trace.warnings],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be pickled: what is in it can be."""
        raise TypeError("a Simulation is not pickled: its `summary`, `requests`, `steps` and `to_dict()` are")

    def __repr__(self) -> str:
        return f"Simulation({self.summary['completed']} of {self.summary['injected']} requests completed)"
