"""Flags of generated traffic, and the traffic that a command's flags ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.traffic.trace import Trace

# What `vllm bench serve` takes as a second word of --goodput.
_OBJECTIVE = re.compile(r"(ttft|tpot|itl|e2el?)(@p[\d.]+)?:[\d.]+(ms)?$")

GENERATED = "Traffic to generate, instead of a TRACE"
ARRIVING = "When requests arrive, instead of when the TRACE says"


def _flag(panel: str, text: str, *names: str) -> Any:
    return Annotated[str | None, typer.Option(*names, help=text, rich_help_panel=panel)]


# Each word about arrivals under the names load generators have for it; with a TRACE they replace its own.
ARRIVALS: dict[str, Any] = {
    "request_rate": _flag(
        ARRIVING,
        "Requests a second, or inf; 1,2,4 gives a row each.",
        "--request-rate",
        "-r",
        "--qps",
    ),
    "burstiness": _flag(ARRIVING, "Gamma shape of the gaps, CV = 1/√b.", "--burstiness"),
    "cv": _flag(ARRIVING, "Coefficient of variation of the gaps, instead.", "--cv"),
    "arrivals": _flag(
        ARRIVING,
        "constant, poisson, gamma, weibull, mmpp(ratio=10,busy=0.2,cycle=200), or trace.",
        "--arrivals",
    ),
    "ramp_up_strategy": _flag(ARRIVING, "linear or exponential, request by request.", "--ramp-up-strategy"),
    "ramp_up_start_rps": _flag(ARRIVING, "Rate of the first request.", "--ramp-up-start-rps"),
    "ramp_up_end_rps": _flag(ARRIVING, "Rate of the last request.", "--ramp-up-end-rps"),
    "stages": _flag(ARRIVING, "RATE:SECONDS, one after the other: 10:60,20:60.", "--stages"),
    "rate_series": _flag(ARRIVING, "CSV file of seconds and rates.", "--rate-series"),
    "diurnal": _flag(ARRIVING, "LOW,HIGH,SECONDS: a rate that swings like a day's.", "--diurnal"),
}
# Each word about what is generated.
TRAFFIC: dict[str, Any] = {
    "num_prompts": _flag(GENERATED, "How many requests.", "--num-prompts", "--num-requests", "-n"),
    "duration": _flag(GENERATED, "Seconds within which requests arrive.", "--duration"),
    "input_len": _flag(
        GENERATED,
        "Prompt tokens: 512, 100:200, lognormal(mean=300,std=200), …",
        "--input-len",
        "--isl",
        "--random-input-len",
    ),
    "output_len": _flag(
        GENERATED, "Tokens of an answer, likewise.", "--output-len", "--osl", "--random-output-len"
    ),
    "random_range_ratio": _flag(GENERATED, "Spread of fixed lengths.", "--random-range-ratio"),
    "range_style": _flag(
        GENERATED, "What the ratio means: vllm, L(1−r) to L(1+r), or sglang, rL to L.", "--range-style"
    ),
    "seq_dist": _flag(
        GENERATED,
        "Mix of PROMPT,ANSWER:PERCENT;…, or genai-bench's N(480,240)/(300,150).",
        "--seq-dist",
        "--traffic-scenario",
    ),
    "prefix_len": _flag(
        GENERATED, "Shared tokens before each prompt.", "--prefix-len", "--prefix", "--random-prefix-len"
    ),
    "shared_prefix_ratio": _flag(GENERATED, "Shared part of each prompt, instead.", "--shared-prefix-ratio"),
    "prefix_groups": _flag(GENERATED, "How many different prefixes (1).", "--prefix-groups"),
    "prefix_zipf": _flag(GENERATED, "How unequally they are used, 0 equally.", "--prefix-zipf"),
    "input_len_stddev": _flag(
        GENERATED, "Deviation of prompts of fixed length.", "--input-len-stddev", "--isl-stddev"
    ),
    "output_len_stddev": _flag(GENERATED, "The same of answers.", "--output-len-stddev", "--osl-stddev"),
    "turns": _flag(GENERATED, "Turns of a conversation, likewise a distribution.", "--turns"),
    "turn_delay": _flag(
        GENERATED, "ms from an answer to the next turn, likewise.", "--turn-delay", "--turn-delay-ms"
    ),
    "turn_delay_stddev": _flag(
        GENERATED, "Deviation of a fixed turn delay.", "--turn-delay-stddev", "--turn-delay-stddev-ms"
    ),
    "sessions": _flag(GENERATED, "How many conversations.", "--sessions"),
    "loras": _flag(GENERATED, "How many adapters.", "--loras"),
    "lora_dist": _flag(GENERATED, "How they are drawn: uniform or zipf:1.5.", "--lora-dist"),
    "tenants": _flag(GENERATED, "How many ask.", "--tenants"),
    "tenant_dist": _flag(GENERATED, "How they are drawn, likewise.", "--tenant-dist"),
    "workload": _flag(
        GENERATED,
        "Lengths and turns as of interactive-chat, code-generation, deep-research, reasoning, batch-rag, "
        "synthetic-data, agentic, or of a JSON file.",
        "--workload",
    ),
    "servegen": _flag(GENERATED, "Folder of ServeGen's clients, instead of rates and lengths.", "--servegen"),
    "servegen_from": _flag(GENERATED, "Second of their recording to begin at.", "--servegen-from"),
    **ARRIVALS,
}


# The same where a command makes one file: a list of rates would be several.
ONE_RATE: dict[str, Any] = {
    "request_rate": _flag(ARRIVING, "Requests a second, or inf.", "--request-rate", "-r", "--qps")
}


def rates(traffic: Mapping[str, Any]) -> list[str]:
    """Return the rates of ``--request-rate 1,2,4``; none where no rate is given."""
    return [part.strip() for part in (traffic.get("request_rate") or "").split(",") if part.strip()]


def check(trace: Sequence[str], traffic: Mapping[str, str | None]) -> dict[str, str]:
    """Return the flags that were given; refuse those beside a TRACE that it decides, and neither of both."""
    given = {word: text for word, text in traffic.items() if text is not None}
    if objective := next(filter(_OBJECTIVE.match, trace), None):
        hint = 'objectives of one flag stand in quotes: `--goodput "ttft:500 tpot:50"`'
        raise SpecError(f"TRACE must be a file: {objective}", field="TRACE", value=objective, hint=hint)
    if not trace and not given:
        hint = "a file, or `--num-prompts 1000 --request-rate 4` for generated traffic"
        raise SpecError("TRACE must be given", field="TRACE", hint=hint)
    for word, text in given.items():
        if trace and word not in ARRIVALS:
            flag = f"--{word.replace('_', '-')}"
            hint = "`--limit` keeps the first requests" if word == "num_prompts" else "leave one of them out"
            raise SpecError(
                f"{flag} must be left out with a TRACE: {text}", field=flag, value=text, hint=hint
            )
    return given


def _check_streamed(trace: Sequence[str], scaling: Mapping[str, Any]) -> None:
    scaled = [f"--{word.replace('_', '-')}" for word, value in scaling.items() if value is not None]
    if beside := scaled[0] if scaled else "a TRACE" if trace else None:
        hint = "requests are drawn as they are served where they are generated, and not scaled"
        raise SpecError(f"--stream must be left out with {beside}", field="--stream", hint=hint)


def loaded(
    trace: Sequence[str],
    reading: Mapping[str, Any],
    scaling: Mapping[str, Any],
    traffic: Mapping[str, str],
    seed: int,
    *,
    arrivals_needed: bool,
    stream: bool | None,
) -> list[Trace]:
    """Return the traffic, once for each rate that is asked for."""
    from roofline_fast.simulation import rates as several

    if stream:
        _check_streamed(trace, scaling)
    return several.loaded(
        list(trace) or None,
        {**reading, **scaling, **traffic},
        rates(traffic),
        seed,
        arrivals_needed=arrivals_needed,
        stream=stream,
    )
