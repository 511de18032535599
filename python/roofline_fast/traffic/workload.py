"""Where the traffic of a simulation comes from: a file, a trace in memory, or a generator."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from roofline_fast.errors import SpecError
from roofline_fast.traffic.trace import Trace

# What generated traffic is described by, and what each is: the flags of the command line with `_`.
TRAFFIC = {
    "num_prompts": "how many requests",
    "duration": "seconds within which requests arrive",
    "seed": "seed; arrivals, lengths and prefixes draw apart",
    "request_rate": "requests a second, or inf",
    "burstiness": "Gamma shape of the gaps, CV = 1/√b",
    "cv": "coefficient of variation of the gaps, instead",
    "arrivals": "constant, poisson, gamma, weibull, mmpp(ratio=10,busy=0.2,cycle=200), or trace: as recorded",
    "ramp_up_strategy": "linear or exponential, from request to request",
    "ramp_up_start_rps": "rate of the first request",
    "ramp_up_end_rps": "rate of the last request",
    "stages": "RATE:SECONDS, one after the other: 10:60,20:60",
    "rate_series": "CSV file of seconds and rates",
    "diurnal": "LOW,HIGH,SECONDS: a rate that swings like a day's",
    "input_len": "tokens of a prompt: 512, 100:200 or lognormal(mean=300,std=200)",
    "output_len": "tokens of an answer, likewise",
    "random_range_ratio": "spread of fixed lengths",
    "range_style": "what the ratio means: vllm (L(1−r) to L(1+r)) or sglang (rL to L)",
    "seq_dist": "mix of PROMPT,ANSWER:PERCENT;…, or a scenario of genai-bench: N(480,240)/(300,150)",
    "prefix_len": "shared tokens before each prompt",
    "shared_prefix_ratio": "share of each prompt that is shared, instead",
    "prefix_groups": "how many different prefixes",
    "prefix_zipf": "how unequally they are used, 0 equally",
    "trace_block_size": "tokens of a block hash",
    "input_len_stddev": "standard deviation of a prompt of fixed length",
    "output_len_stddev": "the same of an answer",
    "turns": "requests of a conversation, likewise: each prompt is all that was said and what is new",
    "turn_delay": "ms from an answer to the next turn, likewise",
    "turn_delay_stddev": "standard deviation of a fixed delay",
    "sessions": "how many conversations",
    "loras": "how many adapters",
    "lora_dist": "how they are drawn: uniform or zipf:1.5",
    "tenants": "how many ask",
    "tenant_dist": "how they are drawn, likewise",
    "workload": "words by name (interactive-chat, agentic, …), or a JSON file of inference-perf's",
    "servegen": "folder of ServeGen's clients, instead of rates and lengths",
    "servegen_from": "second of their recording at which traffic begins",
}
# Words about arrivals alone: with a trace they replace those it has.
ARRIVALS = (
    "request_rate",
    "burstiness",
    "cv",
    "arrivals",
    "ramp_up_strategy",
    "ramp_up_start_rps",
    "ramp_up_end_rps",
    "stages",
    "rate_series",
    "diurnal",
)
# How a trace is scaled, by `Trace.scaled`.
SCALES = (
    "sample",
    "isl_scale",
    "osl_scale",
    "prefix_scale",
    "max_isl",
    "max_osl",
    "idle_gap_cap",
    "turn_delay_cap",
    "upsample",
    "target_rps",
)

Traffic = str | PathLike[str] | Sequence[str | PathLike[str]] | Trace


def words() -> set[str]:
    """Return every keyword that `load` understands."""
    readers = set(inspect.signature(Trace.read).parameters) - {"path", "progress"}
    return readers | {"trace_format", *SCALES, *TRAFFIC} - {"seed"}


def load(
    trace: Traffic | None,
    options: Mapping[str, Any],
    seed: int,
    *,
    arrivals_needed: bool = True,
    stream: bool | None = False,
) -> Trace:
    """Return the traffic: read, as it is, or generated; then scaled; then with other arrivals.

    Parameters
    ----------
    trace : path, sequence of paths, Trace or None
        Files to read, or a trace in memory; nothing to generate it.
    options : mapping
        Keywords of `Trace.read` (``trace_format`` for its ``format``), of `Trace.scaled` and of
        `Trace.generate`; with a trace only those of `Trace.arriving`. ``None`` counts as absent.
    seed : int
        Seed of every draw.
    arrivals_needed : bool
        Whether files must say when requests arrive; not where users send them as others end.
    stream : bool, optional
        Whether requests are drawn as they are served; `None` for where they are many.

    Raises
    ------
    SpecError
        Settings of a generator beside a trace, or of a reader beside a trace in memory; a stream of what is not
        generated, or is scaled; more requests than memory holds.
    """
    several = isinstance(trace, Sequence) and all(isinstance(part, str | PathLike) for part in trace)
    if trace is not None and not isinstance(trace, str | PathLike | Trace) and not several:
        hint = (
            "for example a file of `JSON Lines`, or rf.Trace(arrival_s=…, prompt_tokens=…, output_tokens=…)"
        )
        message = f"trace must be a path or a Trace: {trace!r}"
        raise SpecError(message, field="trace", value=repr(trace), hint=hint)
    given = {word: value for word, value in options.items() if value is not None}
    refuse_pairs(given, generated=trace is None, users=not arrivals_needed)
    _as_recorded(given, generated=trace is None)
    scale = {word: given.pop(word) for word in SCALES if word in given}
    if "trace_format" in given:
        given["format"] = given.pop("trace_format")
    if stream and (trace is not None or scale):
        also = f"beside {next(iter(scale))}" if scale else "for a trace"
        hint = "requests are drawn as they are served where they are generated, and not scaled"
        raise SpecError(f"stream must be left out {also}", field="stream", value="true", hint=hint)
    if trace is None:
        requests = _generated(given, seed, stream=False if scale else stream)
        return requests.scaled(**scale, seed=seed) if scale else requests
    arrivals = {word: given.pop(word) for word in ARRIVALS if word in given}
    _refuse_generator(given)
    if isinstance(trace, Trace):
        _refuse_reader(given)
        requests = trace
    else:
        elsewhere = {} if arrivals_needed and not arrivals else {"arrivals_elsewhere": True}
        requests = Trace.read(trace, **{**given, **elsewhere})
    requests = requests.scaled(**scale, seed=seed) if scale else requests
    return requests.arriving(**arrivals, seed=seed) if arrivals else requests


# What says when requests arrive, too, and would have no effect beside a rate.
TIMES = ("target_rps", "speedup", "time_scale", "idle_gap_cap")
# Arrivals that are not drawn.
RECORDED = ("trace", "servegen")


def refuse_pairs(options: Mapping[str, Any], *, generated: bool, users: bool) -> None:
    """Refuse two words about arrivals of which only one could hold.

    Raises
    ------
    SpecError
        A rate that is a list; users of a closed loop beside arrivals; other words about times beside a rate.
    """
    given = {word: value for word, value in options.items() if value is not None}
    rate = given.get("request_rate")
    if isinstance(rate, Sequence) and (not isinstance(rate, str) or "," in rate):
        hint = 'a row a rate: `rf.simulate_rates(num_prompts=300, request_rate=[1, 2, 4], hw="h100-sxm")`'
        message = f"request_rate must be one rate: {rate!r}"
        raise SpecError(message, field="request_rate", value=repr(rate), hint=hint)
    drawn = [word for word in ARRIVALS if word in given]
    paced = [word for word in drawn if word != "request_rate" or str(given[word]).strip() != "inf"]
    if users and paced:
        hint = "users send when they were answered; `max_concurrency` caps the requests in flight at any rate"
        message = f"{paced[0]} must be left out with concurrency: {given[paced[0]]}"
        raise SpecError(message, field=paced[0], value=str(given[paced[0]]), hint=hint)
    idle = [word for word in TIMES if word in given]
    drawn = [word for word in drawn if str(given[word]).strip() not in RECORDED]
    if idle and drawn and (not generated or "request_rate" in drawn):
        message = f"{idle[0]} must be left out with {drawn[0]}: {given[idle[0]]}"
        hint = f"{drawn[0]} says when requests arrive; `{idle[0]}` is about the arrivals of a trace"
        raise SpecError(message, field=idle[0], value=str(given[idle[0]]), hint=hint)


def _as_recorded(given: dict[str, Any], *, generated: bool) -> None:
    """Take out the words for arrivals as they are: those of a trace, or of ServeGen's clients."""
    arrivals = str(given.get("arrivals", "")).strip()
    if arrivals not in RECORDED:
        return
    held = "servegen" in given if arrivals == "servegen" else not generated
    rated = [word for word in ARRIVALS if word in given and word != "arrivals"]
    if not held:
        wanted = "servegen, a folder of its clients" if arrivals == "servegen" else "a trace"
        raise SpecError(f"arrivals must be given with {wanted}: {arrivals}", field="arrivals", value=arrivals)
    if rated and arrivals == "trace":
        message = f"{rated[0]} must be left out with arrivals as in the trace: {given[rated[0]]}"
        raise SpecError(message, field=rated[0], value=str(given[rated[0]]))
    del given["arrivals"]


def _generated(options: dict[str, Any], seed: int, *, stream: bool | None) -> Trace:
    if not options:
        hint = "or say what to generate: num_prompts=1000, request_rate=4, …"
        raise SpecError("trace must be given", field="trace", hint=hint)
    for word, value in options.items():
        if word not in TRAFFIC and word != "like":
            hint = "it says how a trace is read"
            raise SpecError(f"{word} must be left out without a trace: {value}", field=word, hint=hint)
    if stream or (stream is None and _are_many(options)):
        from roofline_fast.traffic.streamed import Streamed

        return Streamed({**options, "seed": seed})
    _check_memory(options.get("num_prompts"))
    return Trace.generate(**options, seed=seed)


def _are_many(options: Mapping[str, Any]) -> bool:
    """Return whether so many requests are asked for that none should be kept, and can be drawn part by part."""
    from roofline_fast.traffic.streamed import MANY

    try:
        many = float(options.get("num_prompts", 0)) >= MANY
    except (TypeError, ValueError):
        return False
    return many and not {"turns", "sessions", "servegen", "workload"} & options.keys()


# Bytes that a request takes, with what comes of it, where nothing is recorded; a third of them while it is generated.
REQUEST_BYTES = 75


def _check_memory(count: Any) -> None:
    """Refuse more requests than the machine's memory holds, which the system would end without a word."""
    try:
        held = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        needed = float(count) * REQUEST_BYTES
    except (AttributeError, TypeError, ValueError, OSError):
        return
    if needed > held:
        message = (
            f"num_prompts must fit memory: {float(count):,.0f} requests take {needed / 2**30:,.0f} GiB "
            f"of {held / 2**30:,.0f}"
        )
        hint = "any number is served that is drawn meanwhile (stream), of which no request is kept"
        raise SpecError(message, field="num_prompts", value=str(count), hint=hint)


def _refuse_reader(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        hint = "give it to Trace.read"
        raise SpecError(f"{name} must be left out for a Trace: {value}", field=name, hint=hint)


def _refuse_generator(options: Mapping[str, Any]) -> None:
    for word in TRAFFIC:
        if word in options and word != "trace_block_size":
            hint = (
                "use limit to keep the first requests" if word == "num_prompts" else "leave one of them out"
            )
            message = f"{word} must be left out with a trace: {options[word]}"
            raise SpecError(message, field=word, value=str(options[word]), hint=hint)


def texts(traffic: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is given, as the texts that the command line would have: ``(100, 200)`` is ``100:200``."""
    return [(word, _text(word, value)) for word, value in traffic.items() if value is not None]


def _text(word: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, PathLike):
        return str(os.fspath(value))
    if isinstance(value, tuple) and len(value) == 2:
        return ":".join(_text(word, end) for end in value)
    # Arrays have all these methods, too.
    if not hasattr(value, "__len__") and not isinstance(value, bool):
        if hasattr(value, "__index__"):
            return str(int(value))
        if hasattr(value, "__float__"):
            return repr(float(value))
    raise SpecError(f"{word} must be a number or a text: {value!r}", field=word, value=repr(value))
