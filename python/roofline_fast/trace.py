"""Traces: who asks for how much, and when."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.columns import column, optional
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame

if TYPE_CHECKING:
    import polars as pl


class Trace:
    """A workload in columns, sorted by arrival.

    Parameters
    ----------
    arrival_s : array
        When each request arrives, seconds since the trace began.
    prompt_tokens, output_tokens : array of int
        Lengths of prompt and answer, tokens.
    ids : sequence of str, optional
        Identifiers; row numbers unless given.
    priority : array of int, optional
        Lower is served first, under ``scheduling_policy="priority"``.
    block_hashes : column of lists of int, optional
        Hashes of the leading blocks of each prompt: prompts whose hashes are equal up to a block have equal
        tokens up to its end. What follows the last hash is the prompt's own.
    block_size : int, optional
        Tokens of such a block.
    segments, segment_lengths : columns of lists of int, optional
        Which segments each prompt consists of, and how many tokens of each from its first one on: equal
        segments are equal tokens. Instead of `block_hashes`.
    output_segment : array of int, optional
        Which segment each answer is, for later prompts that repeat it.
    session : sequence, optional
        The conversation of each request, by name or number; ``None`` for one without. A turn is sent when the
        one before it was answered, and not before its `arrival_s`.
    after : column of lists of int, optional
        Rows (from 0) that must be answered before a request is sent, instead of the turn before it.
    delay_s : array, optional
        Seconds between these answers and the request.

    Columns of lists are polars columns, lists of lists, or arrays of arrays.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> trace = rf.Trace(arrival_s=[0.0, 0.5], prompt_tokens=[1000, 200], output_tokens=[10, 20])
    >>> len(trace), trace.requests["prompt_tokens"].sum()
    (2, 1200)

    A second turn that repeats the first one's prompt (segment 1) and answer (segment 2):

    >>> turns = rf.Trace(
    ...     arrival_s=[0.0, 60.0],
    ...     prompt_tokens=[64, 100],
    ...     output_tokens=[16, 10],
    ...     segments=[[1], [1, 2, 3]],
    ...     segment_lengths=[[64], [64, 16, 20]],
    ...     output_segment=[2, 4],
    ... )
    >>> rf.simulate(turns, hw="h100-sxm", model="llama-3.1-8b").requests["cached_tokens"].to_list()
    [0, 64]
    """

    def __init__(
        self,
        arrival_s: Any,
        prompt_tokens: Any,
        output_tokens: Any,
        *,
        ids: Any = None,
        priority: Any = None,
        block_hashes: Any = None,
        block_size: int | None = None,
        segments: Any = None,
        segment_lengths: Any = None,
        output_segment: Any = None,
        session: Any = None,
        after: Any = None,
        delay_s: Any = None,
    ) -> None:
        checks.counts(block_size=block_size)
        self.compiled = _core.Trace(
            column(arrival_s),
            column(prompt_tokens),
            column(output_tokens),
            ids=None if ids is None else list(ids),
            priority=optional(priority),
            block_hashes=block_hashes,
            block_size=block_size,
            segments=segments,
            segment_lengths=segment_lengths,
            output_segment=optional(output_segment),
            session=None if session is None else ["" if name is None else str(name) for name in session],
            after=after,
            delay_s=optional(delay_s),
        )

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - the word users know from the file
        time_unit: str | None = None,
        on_error: str = "stop",
        zero_output: str | None = None,
        trace_block_size: int | None = None,
        require_sorted: bool = False,
        priority_order: str = "lower-first",
        csv_delimiter: str | None = None,
        csv_decimal: str = ".",
        window: tuple[float, float] | str | None = None,
        speedup: float | None = None,
        limit: int | None = None,
        progress: _core.Progress | None = None,
    ) -> Trace:
        """Read a file: JSON Lines, JSON or CSV, plain, gzip or zstd, in any format that is known.

        Parameters
        ----------
        path : path
            The file.
        format : str, optional
            What it is (``mooncake``, ``azure-code``, …); detected unless said.
        time_unit : {"s", "ms", "us", "ns", "datetime"}, optional
            Unit of its arrivals; that of the format unless said.
        on_error : {"stop", "skip"}
            What a bad row does.
        zero_output : {"drop", "prefill", "one"}, optional
            What becomes of requests for no output.
        trace_block_size : int, optional
            Tokens of a hash id; that of the format unless said.
        require_sorted : bool
            Whether arrivals out of order are an error.
        priority_order : {"lower-first", "higher-first"}
            Which priority is served first.
        csv_delimiter, csv_decimal : str
            How a CSV file is written.
        window : (float, float) or "A:B", optional
            Keep arrivals from second A on and before second B.
        speedup : float, optional
            Above 1 arrivals come faster.
        limit : int, optional
            Keep the first requests.
        progress : optional
            Counters to follow from another thread.

        Returns
        -------
        Trace
            Its requests; `warnings` says what was repaired.
        """
        checks.counts(trace_block_size=trace_block_size, limit=limit)
        checks.numbers(speedup=speedup)
        options = _core.TraceOptions(
            format=format,
            time_unit=time_unit,
            on_error=on_error,
            zero_output=zero_output,
            trace_block_size=trace_block_size,
            require_sorted=require_sorted,
            priority_order=priority_order,
            csv_delimiter=csv_delimiter,
            csv_decimal=csv_decimal,
            window_s=_window(window) if isinstance(window, str) else window,
            speedup=speedup,
            limit=limit,
        )
        trace = cls.__new__(cls)
        trace.compiled = _core.Trace.read(path, options, progress)
        return trace

    def __len__(self) -> int:
        return len(self.compiled)

    @property
    def requests(self) -> pl.DataFrame:
        """One row a request, in order of arrival; ``priority`` only where it has any."""
        return frame(self.compiled.requests)

    def inspect(self) -> pl.DataFrame:
        """Return what it is like, as rows of ``metric, value, unit``; what is not known is null."""
        return frame(self.compiled.inspect())

    @property
    def model(self) -> str | None:
        """The model it names, if it names exactly one."""
        return self.compiled.model

    @property
    def origin(self) -> str | None:
        """The file as the user named it; ``None`` for a trace made of columns."""
        return self.compiled.origin

    @property
    def format(self) -> str | None:
        """What it was read as (``mooncake``)."""
        return self.compiled.format

    @property
    def why(self) -> str | None:
        """By what it was recognised."""
        return self.compiled.why

    @property
    def time_unit(self) -> str | None:
        """The unit its arrivals were read in."""
        return self.compiled.time_unit

    @property
    def block_size(self) -> int | None:
        """Tokens of a hash id, where it has hash ids."""
        return self.compiled.block_size

    @property
    def warnings(self) -> list[str]:
        """What reading repaired, in sentences."""
        return [_warning(*warning) for warning in self.compiled.warnings]

    @property
    def information(self) -> list[str]:
        """What reading assumed."""
        return self.compiled.information

    def __repr__(self) -> str:
        return f"Trace({len(self)} requests{'' if self.origin is None else f' of {self.origin}'})"


def _warning(text: str, count: int, first_line: int, hint: str) -> str:
    rows = "1 row" if count == 1 else f"{count:,} rows"
    place = f", first in line {first_line}" if first_line else ""
    return f"{text} ({rows}{place})" + (f"; {hint}" if hint else "")


def _window(text: str) -> tuple[float, float]:
    """Read ``A:B`` in seconds; an end left out is open."""
    begin, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return float(begin or 0.0), float(end or "inf")
    except ValueError:
        hint = "for example `600:1200`, or `600:` for everything from there on"
        raise SpecError(
            f"window must read A:B in seconds: {text}", field="window", value=text, hint=hint
        ) from None
