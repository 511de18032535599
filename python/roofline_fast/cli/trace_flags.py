"""Flags about a trace: how it is read, and how much of it is taken."""

from __future__ import annotations

from typing import Annotated, Any

import typer

READ = "How the trace is read"
TAKEN = "How much of the trace"


def _flag(kind: Any, text: str, *names: str, panel: str = READ, metavar: str | None = None) -> Any:
    option = typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar, show_default=False)
    return Annotated[kind | None, option]


# Each keyword of `Trace.read` under its flag; `trace_format` is its `format`.
READING: dict[str, Any] = {
    "trace_format": _flag(str, "What it is, instead of what is detected."),
    "map": _flag(
        list[str], "Which field is which: arrival=ts:s, input=FIELD.", "--map", metavar="WHAT=FIELD"
    ),
    "columns": _flag(
        str,
        "Which column is which, several at once: arrival=ts:s,input=A,output=B; or the names of columns without a "
        "header: ts,A,B.",
    ),
    "trace_block_size": _flag(int, "Tokens of a hash id."),
    "time_format": _flag(str, "How dates are written: '%d/%m/%Y %H:%M:%S'."),
    "time_unit": _flag(str, "Unit of arrivals: s, ms, us, ns or datetime."),
    "turn_lengths": _flag(str, "What a turn's prompt counts: full or delta."),
    "default_output_tokens": _flag(int, "Answers that the trace does not tell."),
    "zero_output": _flag(str, "Requests for no output: drop, prefill or one."),
    "priority_order": _flag(str, "Which are served first: lower-first or higher-first."),
    "require_sorted": _flag(bool, "Refuse arrivals that go back in time.", "--require-sorted"),
    "on_error": _flag(str, "What a bad row does: stop or skip."),
    "strict": _flag(bool, "Refuse whatever would be repaired.", "--strict"),
    "csv_delimiter": _flag(str, "Between columns, instead of the one seen."),
    "csv_decimal": _flag(str, "Before decimals: . or ,"),
    "window": _flag(str, "Keep arrivals from second A to B.", panel=TAKEN, metavar="A:B"),
    "speedup": _flag(float, "Above 1 arrivals come faster.", "--speedup", "--rate-scale", panel=TAKEN),
    "time_scale": _flag(float, "The other way: above 1 slower, as in GuideLLM and Vidur.", panel=TAKEN),
    "limit": _flag(int, "Keep the first requests.", panel=TAKEN),
}
# The same for a trace that traffic is to be like; a hash id of what is generated has a size of its own.
OF_LIKE: dict[str, Any] = {word: flag for word, flag in READING.items() if word != "trace_block_size"}
# Each keyword of `Trace.scaled` but the seed, in the order in which they apply.
SCALING: dict[str, Any] = {
    "sample": _flag(float, "Keep this share of sessions.", panel=TAKEN),
    "isl_scale": _flag(float, "Make prompts so many times as long.", panel=TAKEN),
    "osl_scale": _flag(float, "The same for answers.", panel=TAKEN),
    "prefix_scale": _flag(float, "The same for what prompts share; what is their own stays.", panel=TAKEN),
    "max_isl": _flag(int, "Tokens of a prompt at most.", panel=TAKEN),
    "max_osl": _flag(int, "Tokens of an answer at most.", panel=TAKEN),
    "idle_gap_cap": _flag(
        float, "Seconds without an arrival at most.", "--idle-gap-cap", "--idle-gap-cap-s", panel=TAKEN
    ),
    "turn_delay_cap": _flag(
        float,
        "Seconds from an answer to the next turn at most.",
        "--turn-delay-cap",
        "--turn-delay-cap-s",
        panel=TAKEN,
    ),
    "upsample": _flag(int, "Put so many shifted copies side by side.", panel=TAKEN),
    "target_rps": _flag(float, "Stretch time to so many requests a second.", panel=TAKEN),
}
OverContext = Annotated[
    str,
    typer.Option(
        help="Requests longer than --max-model-len: reject, truncate or fail.", rich_help_panel=TAKEN
    ),
]
UseRecordedCache = Annotated[
    bool,
    typer.Option("--use-recorded-cache", help="Count recorded cache hits as hits.", rich_help_panel=TAKEN),
]


def reading(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, as `Trace.read` calls it."""
    options = {word: value for word, value in given.items() if value is not None}
    if "trace_format" in options:
        options["format"] = options.pop("trace_format")
    return options
