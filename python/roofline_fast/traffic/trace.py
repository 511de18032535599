"""Traces: who asks for how much, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.columns import column
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
            column("arrival_s", arrival_s),
            column("prompt_tokens", prompt_tokens),
            column("output_tokens", output_tokens),
            ids=None if ids is None else list(ids),
            priority=column("priority", priority),
            block_hashes=block_hashes,
            block_size=block_size,
            segments=segments,
            segment_lengths=segment_lengths,
            output_segment=column("output_segment", output_segment),
            session=None if session is None else ["" if name is None else str(name) for name in session],
            after=after,
            delay_s=column("delay_s", delay_s),
        )

    @classmethod
    def read(
        cls,
        path: str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        format: str | None = None,  # noqa: A002 - the word users know from the file
        map: Sequence[str] | Mapping[str, str] | None = None,  # noqa: A002 - as above
        columns: str | Sequence[str] | Mapping[str, str] | None = None,
        time_unit: str | None = None,
        time_format: str | None = None,
        on_error: str = "stop",
        strict: bool = False,
        zero_output: str | None = None,
        default_output_tokens: int | None = None,
        turn_lengths: str | None = None,
        trace_block_size: int | None = None,
        require_sorted: bool = False,
        priority_order: str = "lower-first",
        csv_delimiter: str | None = None,
        csv_decimal: str = ".",
        arrivals_elsewhere: bool = False,
        window: tuple[float, float] | str | None = None,
        speedup: float | None = None,
        time_scale: float | None = None,
        limit: int | None = None,
        progress: _core.Progress | None = None,
    ) -> Trace:
        """Read files: JSON Lines, JSON, CSV, Parquet or Arrow, in any format that is known.

        Parameters
        ----------
        path : path or sequence of paths
            A file, a folder, a pattern (``day-*.jsonl``), ``-`` for the standard input (text), or several of
            these: one trace with one origin of time.
        format : str, optional
            What it is (``mooncake``, ``azure_llm``, …); detected unless said.
        map : sequence of "what=field", or mapping, optional
            Which fields hold what, where their names do not tell: ``{"arrival": "ts:s", "input": "n_in"}``.
        columns : str, sequence of str, or mapping, optional
            Several of `map` at once (``"arrival=ts:s,input=n_in,output=n_out"``, or the mapping); or the names of a
            CSV file's columns, which then has no header (``"ts,n_in,n_out"``).
        time_unit : {"s", "ms", "us", "ns", "datetime"}, optional
            Unit of its arrivals; that of the format unless said.
        time_format : str, optional
            How its arrivals are written where they are dates, as `strptime` has it: ``"%d/%m/%Y %H:%M:%S%.f"``
            (``%.f``: a fraction that may be absent).
        on_error : {"stop", "skip"}
            What a bad row does.
        strict : bool
            Whether what would be repaired, and said in `warnings`, is an error.
        zero_output : {"drop", "prefill", "one"}, optional
            What becomes of requests for no output.
        default_output_tokens : int, optional
            Output tokens of requests that do not say.
        turn_lengths : {"full", "delta"}, optional
            What the prompt of a turn counts: all that was said before, or only what is new.
        trace_block_size : int, optional
            Tokens of a hash id; that of the format unless said.
        require_sorted : bool
            Whether arrivals out of order are an error.
        priority_order : {"lower-first", "higher-first"}
            Which priority is served first.
        csv_delimiter, csv_decimal : str
            How a CSV file is written.
        arrivals_elsewhere : bool
            Whether a file without arrivals is read, everything at second 0: for `arriving`, or for users in a
            closed loop.
        window : (float, float) or "A:B", optional
            Keep arrivals from second A on and before second B.
        speedup : float, optional
            Above 1 arrivals come faster.
        time_scale : float, optional
            The other way: above 1 arrivals come slower. Time between them is multiplied by it.
        limit : int, optional
            Keep the first requests.
        progress : optional
            Counters to follow from another thread.

        Returns
        -------
        Trace
            Its requests; `warnings` says what was repaired, `information` what was assumed.

        Raises
        ------
        TraceError
            A file that cannot be read, or breaks a rule: with file, line and field, every kind of mistake at once.
        SpecError
            An option that is not possible.
        """
        from roofline_fast.traffic.trace_files import files_of, parts, unit_of
        from roofline_fast.traffic.trace_options import columns_text, pace, pairs, seconds

        checks.counts(trace_block_size=trace_block_size, limit=limit)
        checks.counts(default_output_tokens=default_output_tokens)
        checks.texts(csv_delimiter=csv_delimiter, time_format=time_format)
        if csv_delimiter is not None and len(csv_delimiter) != 1:
            message = f"csv_delimiter must be one character: {csv_delimiter!r}"
            raise SpecError(message, field="csv_delimiter", value=csv_delimiter, hint="for example `;`")
        checks.numbers(speedup=speedup, time_scale=time_scale)
        speedup, slower = pace(speedup, time_scale)
        names = [path] if isinstance(path, str | PathLike) else list(path)
        files, columnar = files_of([str(fspath(name)) for name in names])
        if columnar and time_unit is None and time_format is None:
            time_unit = unit_of(files)
        options = _core.TraceOptions(
            format=format,
            map=pairs(map) if isinstance(map, Mapping) else map,
            columns=columns_text(columns),
            time_unit=time_unit,
            time_format=time_format,
            on_error=on_error,
            strict=strict,
            zero_output=zero_output,
            default_output_tokens=default_output_tokens,
            turn_lengths=turn_lengths,
            trace_block_size=trace_block_size,
            require_sorted=require_sorted,
            priority_order=priority_order,
            csv_delimiter=csv_delimiter,
            csv_decimal=csv_decimal,
            arrivals_elsewhere=arrivals_elsewhere,
            window_s=seconds(window),
            speedup=speedup,
            limit=limit,
        )
        trace = cls.__new__(cls)
        if columnar:
            called = files[0] if len(files) == 1 else f"{len(files)} files ({files[0]} to {files[-1]})"
            trace.compiled = _core.Trace.read_parts(parts(files), called, options)
        else:
            trace.compiled = _core.Trace.read(files, options, progress)
        trace.assumed = slower
        return trace

    # What a screen calls it where it comes from no file, and what was assumed where it was generated.
    made = "trace"
    assumed: tuple[str, ...] = ()

    @classmethod
    def generate(cls, num_prompts: int | None = None, *, like: Trace | None = None, **traffic: Any) -> Trace:
        """Draw requests that nobody sent.

        Parameters
        ----------
        num_prompts : int, optional
            How many; may be left out where `duration`, `stages` or `like` says when to end.
        like : Trace, optional
            A trace whose lengths, rate and burstiness are taken for whatever is not said.
        **traffic
            ``request_rate``, ``input_len`` and the other words of `roofline_fast.traffic.workload.TRAFFIC`.

        Returns
        -------
        Trace
            The requests; `information` says what was assumed.

        Examples
        --------
        >>> import roofline_fast as rf
        >>> trace = rf.Trace.generate(1000, request_rate=4, input_len="lognormal(mean=800,std=600)")
        >>> len(trace), trace.information
        (1000, ['output_len 128 (default)'])
        """
        from roofline_fast.traffic.kinds import expanded
        from roofline_fast.traffic.workload import texts

        progress = traffic.pop("progress", None)
        words = texts({"num_prompts": num_prompts, **expanded(traffic)})
        trace = cls.__new__(cls)
        if like is not None and not isinstance(like, Trace):
            raise SpecError(f"like must be a Trace: {like!r}", field="like", value=repr(like))
        original = None if like is None else like.compiled
        trace.compiled, assumed = _core.Trace.generate(words, original, progress)
        trace.made, trace.assumed = "generated", tuple(assumed)
        return trace

    @classmethod
    def generate_to(
        cls,
        path: str | PathLike[str],
        num_prompts: int | None = None,
        *,
        format: str | None = None,  # noqa: A002 - as in `write`
        progress: _core.Progress | None = None,
        **traffic: Any,
    ) -> tuple[int, list[str]]:
        """Write requests that nobody sent as they are drawn, in memory that does not grow with their number.

        Parameters
        ----------
        path : path
            Ends in ``.jsonl`` (also ``.jsonl.gz``, ``.jsonl.zst``), or in ``.csv`` for ``vidur`` and
            ``azure_llm``.
        num_prompts : int, optional
            As for `generate`.
        format : {"native", "mooncake", "vidur", "azure_llm"}, optional
            As for `write`.
        progress : optional
            Counters to follow from another thread.
        **traffic
            As for `generate`, but for `like` and conversations.

        Returns
        -------
        int, list of str
            How many requests, and what was assumed.
        """
        from roofline_fast.traffic.kinds import expanded
        from roofline_fast.traffic.trace_files import format_of, streams
        from roofline_fast.traffic.workload import texts

        form = format_of(fspath(path), format)
        if not streams(fspath(path), form):
            hint = "`.jsonl` is, also packed (`.jsonl.zst`); so are vidur and azure in `.csv`"
            message = f"path must be a file that is written row by row: {fspath(path)}"
            raise SpecError(message, field="path", value=fspath(path), hint=hint)
        words = texts({"num_prompts": num_prompts, **expanded(traffic)})
        return _core.Trace.generate_to(words, path, form, progress)

    def scaled(
        self,
        *,
        sample: float | None = None,
        upsample: int | None = None,
        target_rps: float | None = None,
        isl_scale: float | None = None,
        osl_scale: float | None = None,
        prefix_scale: float | None = None,
        max_isl: int | None = None,
        max_osl: int | None = None,
        idle_gap_cap: float | None = None,
        turn_delay_cap: float | None = None,
        seed: int = 0,
    ) -> Trace:
        """Return more or less of the same traffic.

        Parameters
        ----------
        sample : float, optional
            The share of sessions to keep; of requests, where there are no sessions.
        isl_scale, osl_scale : float, optional
            How many times as long prompts and answers become, after sampling; prompts keep what they share, as
            far as it reaches.
        prefix_scale : float, optional
            How many times as long that becomes which prompts share with others, before `isl_scale`; what is their own
            stays.
        max_isl, max_osl : int, optional
            Tokens they have at most, after that.
        idle_gap_cap : float, optional
            Seconds without an arrival at most: longer pauses are cut.
        turn_delay_cap : float, optional
            Seconds between an answer and the turn that waits for it, at most.
        upsample : int, optional
            How many copies to put side by side, after sampling: each shifted by up to 1 % of the span, with
            sessions and prefixes of its own.
        target_rps : float, optional
            Requests a second on average, by stretching time, after that.
        seed : int
            Seed of the sample and of the shifts.

        Returns
        -------
        Trace
            The requests.
        """
        checks.numbers(sample=sample, target_rps=target_rps)
        checks.counts(upsample=upsample, max_isl=max_isl, max_osl=max_osl)
        checks.numbers(isl_scale=isl_scale, osl_scale=osl_scale, idle_gap_cap=idle_gap_cap)
        checks.numbers(prefix_scale=prefix_scale, turn_delay_cap=turn_delay_cap)
        checks.counts(64, seed=seed)
        return self._changed(
            self.compiled.scaled(
                sample=sample,
                upsample=upsample,
                target_rps=target_rps,
                isl_scale=isl_scale,
                osl_scale=osl_scale,
                prefix_scale=prefix_scale,
                max_isl=max_isl,
                max_osl=max_osl,
                idle_gap_cap=idle_gap_cap,
                turn_delay_cap=turn_delay_cap,
                seed=seed,
            )
        )

    def arriving(self, *, seed: int = 0, **arrivals: Any) -> Trace:
        """Return the same requests in the same order, arriving otherwise.

        Requests that wait for others keep waiting, each with its delay.

        Parameters
        ----------
        seed : int
            Seed of the gaps.
        **arrivals
            ``request_rate`` and the other words of `roofline_fast.traffic.workload.ARRIVALS`.

        Returns
        -------
        Trace
            The requests.

        Examples
        --------
        >>> import roofline_fast as rf
        >>> trace = rf.Trace(arrival_s=[0.0, 60.0], prompt_tokens=[1000, 200], output_tokens=[10, 20])
        >>> trace.arriving(request_rate=4, arrivals="constant").requests["arrival_s"].to_list()
        [0.0, 0.25]
        """
        from roofline_fast.traffic.workload import texts

        trace = self._changed(self.compiled.arriving(texts({**arrivals, "seed": seed})))
        trace.assumed = (*self.assumed, "arrivals are drawn, not the recorded ones")
        return trace

    def write(self, path: str | PathLike[str], *, format: str | None = None) -> list[str]:  # noqa: A002
        """Write a file, which appears whole or not at all.

        Parameters
        ----------
        path : path
            Ends in ``.jsonl`` (also ``.jsonl.gz``, ``.jsonl.zst``), ``.csv`` or ``.parquet``.
        format : {"native", "mooncake", "vidur", "azure_llm"}, optional
            What is written: ``native`` unless said, which keeps everything and which `read` gives back.

        Returns
        -------
        list of str
            What the trace has and the format cannot hold.
        """
        from roofline_fast.traffic.trace_files import written

        return written(self.compiled, fspath(path), format)

    def _changed(self, compiled: _core.Trace) -> Trace:
        """Return another trace that comes from where this one does."""
        trace = Trace.__new__(Trace)
        trace.compiled = compiled
        trace.made, trace.assumed = self.made, self.assumed
        return trace

    def __len__(self) -> int:
        return len(self.compiled)

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be pickled: millions of requests go through a file."""
        raise TypeError(
            "a Trace is not pickled: `write` it to a file, and give its path to the other process"
        )

    @property
    def requests(self) -> pl.DataFrame:
        """One row a request, in order of arrival.

        Besides ``request_id, arrival_s, prompt_tokens, output_tokens`` what the file has: ``priority``,
        ``model`` (where requests ask for several), ``prefix_group``, ``prefix_tokens``, ``lora``,
        ``recorded_cached_tokens``, ``images``, ``image_tokens``, ``audio_tokens``, ``video_tokens``,
        ``deadline_s``, ``observed_ttft_s``, …
        """
        return frame(self.compiled.requests)

    def inspect(self) -> pl.DataFrame:
        """Return what it is like, as rows of ``metric, value, unit``; what is not known is null.

        ``rate`` counts gaps over the span, ``(n − 1)/span``; ``window_*`` are windows of ``window`` seconds, a
        length of its own choice; ``prefix_hit`` is what an infinite prefix cache would find,
        ``prefix_hit_block_16`` where an engine finds whole blocks of 16 tokens and computes a prompt's last
        token itself. Requests in flight are those recorded (``observed_in_flight_*``), or an estimate.
        """
        return frame(self.compiled.inspect())

    def windows(self, window_s: float | None = None) -> pl.DataFrame:
        """Return how rate and burstiness change, one row a window.

        Parameters
        ----------
        window_s : float, optional
            Seconds of a window; unless said a round number with about thirty requests in each.

        Returns
        -------
        polars.DataFrame
            ``start_s, requests, rate, gap_cv, prompt_tokens, output_tokens``; ``gap_cv``, the standard deviation
            of gaps over their mean, is null in windows of fewer than ten requests.

        Examples
        --------
        >>> import roofline_fast as rf
        >>> rf.Trace.generate(1000, request_rate=4, input_len=512).windows(60)["requests"].sum()
        1000
        """
        checks.numbers(window_s=window_s)
        return frame(self.compiled.windows(window_s))

    @cached_property
    def outline(self) -> dict[str, float | None]:
        """What one line about it says: requests, span, rate, mean lengths."""
        return dict(self.compiled.outline)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """The numbers of `inspect` by name."""
        return dict(self.compiled.metrics)

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
        """What reading or generating assumed."""
        return [*self.compiled.information, *self.assumed]

    def __repr__(self) -> str:
        return f"Trace({len(self)} requests{'' if self.origin is None else f' of {self.origin}'})"


def _warning(text: str, count: int, first_line: int, hint: str) -> str:
    rows = "1 row" if count == 1 else f"{count:,} rows"
    place = f", first in line {first_line}" if first_line else ""
    told = f" ({rows}{place})" if count else ""
    return text + told + (f"; {hint}" if hint else "")
