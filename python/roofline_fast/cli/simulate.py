"""``roofline-fast simulate``: traffic through an engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, scenario, simulate_output, talk, trace_flags, traffic
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.simulation.result import Simulation

HELP = """Replay a trace, or generated traffic, through an engine: latencies, throughput, where the time went.

TTFT = first token − arrival, queueing included. TPOT of a request = (E2E − TTFT)/(output tokens − 1).
ITL = every gap between tokens, pooled. Goodput = requests a second that meet every objective of --slo.

Without a TRACE the flags below say what to generate; --request-rate 1,2,4 gives one row a rate.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", cls=Command, help=HELP)(simulate)


@with_flags("reading", trace_flags.READING)
@with_flags("scaling", trace_flags.SCALING)
@with_flags("words", traffic.TRAFFIC)
@with_flags("told", simulate_output.TELLING)
@with_flags("deployed", flags.DEPLOYED)
@with_flags("drafts", flags.DRAFTS)
def simulate(
    trace: flags.TraceArgument = None,
    hw: flags.Hw = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            "--model-path",
            help="Catalogue name, Hugging Face id or file; the trace's own unless said.",
        ),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo", "--goodput", metavar="TEXT", help='Objectives in ms: "ttft:500 tpot:50", "ttft@p99:500".'
        ),
    ] = None,
    percentiles: Annotated[
        str, typer.Option("--percentiles", "--metric-percentiles", help="Which are reported.")
    ] = "50,90,95,99",
    seed: Annotated[int, typer.Option(help="Seed of what is drawn: traffic, accepted drafts.")] = 0,
    step_cost: Annotated[
        str | None, typer.Option(help="linear:A,B,C: A + B·tokens + C·context seconds a step.")
    ] = None,
    session_mode: flags.SessionMode = "closed",
    concurrency: flags.Concurrency = None,
    think_time: flags.ThinkTime = 0.0,
    max_concurrency: flags.MaxConcurrency = None,
    warmup: flags.Warmup = None,
    measure: flags.Measure = None,
    over_context: trace_flags.OverContext = "reject",
    use_recorded_cache: trace_flags.UseRecordedCache = False,
    stream: simulate_output.Stream = None,
    deployed: dict[str, Any] | None = None,
    techniques: flags.With = None,
    mode: flags.Mode = "predicted",
    efficiency: flags.Efficiency = None,
    act_quant: flags.ActQuant = None,
    launch: flags.Launch = None,
    p2p: flags.P2p = None,
    host: flags.Host = None,
    api_latency: flags.ApiLatency = None,
    engine: flags.Engine = "vllm",
    max_num_seqs: flags.MaxNumSeqs = None,
    max_num_batched_tokens: flags.MaxNumBatchedTokens = None,
    max_model_len: Annotated[
        str | None,
        typer.Option(help="Tokens of prompt and answer: 32768, 32K.", rich_help_panel=flags.ENGINE),
    ] = None,
    block_size: flags.BlockSize = None,
    gpu_memory_utilization: flags.GpuMemoryUtilization = None,
    enforce_eager: flags.EnforceEager = None,
    num_gpu_blocks_override: Annotated[
        int | None,
        typer.Option(
            "--num-gpu-blocks-override",
            "--num-gpu-blocks",
            help="KV blocks, instead of what memory gives.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    enable_chunked_prefill: Annotated[
        bool | None,
        typer.Option(
            "--enable-chunked-prefill/--no-enable-chunked-prefill",
            help="Prompts in several steps.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    enable_prefix_caching: Annotated[
        bool | None,
        typer.Option(
            "--enable-prefix-caching/--no-enable-prefix-caching",
            help="Find prefixes again.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    async_scheduling: Annotated[
        bool | None,
        typer.Option(
            "--async-scheduling/--no-async-scheduling",
            help="Schedule a step while the one before it runs.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    scheduling_policy: Annotated[
        str | None,
        typer.Option(
            "--scheduling-policy",
            "--schedule-policy",
            help="fcfs; priority (vllm), lpm (sglang).",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    watermark: Annotated[
        float | None, typer.Option(help="Share of KV blocks left free.", rich_help_panel=flags.ENGINE)
    ] = None,
    long_prefill_token_threshold: Annotated[
        int | None, typer.Option(help="Tokens of one prompt a step.", rich_help_panel=flags.ENGINE)
    ] = None,
    long_prefill_token_threshold_adaptive: Annotated[
        bool | None,
        typer.Option(
            "--long-prefill-token-threshold-adaptive/--no-long-prefill-token-threshold-adaptive",
            help="At least an equal share.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    scheduler_reserve_full_isl: Annotated[
        bool | None,
        typer.Option(
            "--scheduler-reserve-full-isl/--no-scheduler-reserve-full-isl",
            help="Admit only whole prompts.",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    prefill_schedule_interval: Annotated[
        int | None, typer.Option(help="Prompts only every so many steps.", rich_help_panel=flags.ENGINE)
    ] = None,
    max_num_active_seqs: Annotated[
        int | None, typer.Option(help="Running at once, if fewer.", rich_help_panel=flags.ENGINE)
    ] = None,
    max_prefill_tokens: Annotated[
        int | None, typer.Option(help="Prompt tokens of a step (sglang).", rich_help_panel=flags.ENGINE)
    ] = None,
    schedule_conservativeness: Annotated[
        float | None,
        typer.Option(help="Room kept for answers to come (sglang).", rich_help_panel=flags.ENGINE),
    ] = None,
    enable_mixed_chunk: Annotated[
        bool | None,
        typer.Option(
            "--enable-mixed-chunk/--no-enable-mixed-chunk",
            help="Answers beside chunks (sglang).",
            rich_help_panel=flags.ENGINE,
        ),
    ] = None,
    capacity_scheduler_policy: Annotated[
        str | None,
        typer.Option(help="guaranteed-no-evict, max-utilization (trtllm).", rich_help_panel=flags.ENGINE),
    ] = None,
    preemption_mode: Annotated[
        str | None, typer.Option(help="recompute, swap (vllm-v0).", rich_help_panel=flags.ENGINE)
    ] = None,
    swap_space: Annotated[
        float | None,
        typer.Option(help="GiB of the host a GPU swaps to (vllm-v0).", rich_help_panel=flags.ENGINE),
    ] = None,
    swa_full_tokens_ratio: Annotated[
        float | None,
        typer.Option(help="Tokens of windowed layers to others' (sglang).", rich_help_panel=flags.ENGINE),
    ] = None,
    mamba_full_memory_ratio: Annotated[
        float | None,
        typer.Option(help="Memory of states to the KV cache's (sglang).", rich_help_panel=flags.ENGINE),
    ] = None,
    usage_context: Annotated[
        str | None,
        typer.Option(help="api-server or llm: whose defaults (vllm).", rich_help_panel=flags.ENGINE),
    ] = None,
    performance_mode: Annotated[
        str | None,
        typer.Option(help="balanced, interactivity, throughput (vllm).", rich_help_panel=flags.ENGINE),
    ] = None,
    kv_cache_memory_bytes: Annotated[
        str | None,
        typer.Option(
            help="KV cache of a GPU instead of a share: 40e9, 40G.",
            rich_help_panel=flags.ENGINE,
            metavar="BYTES",
        ),
    ] = None,
    max_num_scheduled_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens scheduled a step, if fewer (vllm).", rich_help_panel=flags.ENGINE),
    ] = None,
    max_num_queued_reqs: Annotated[
        int | None, typer.Option(help="Requests that may wait (vllm).", rich_help_panel=flags.ENGINE)
    ] = None,
    stream_interval: Annotated[
        int | None, typer.Option(help="Tokens sent together (vllm, sglang).", rich_help_panel=flags.ENGINE)
    ] = None,
    drafts: dict[str, Any] | None = None,
    reading: dict[str, Any] | None = None,
    scaling: dict[str, Any] | None = None,
    words: dict[str, Any] | None = None,
    told: dict[str, Any] | None = None,
    config: scenario.Config = None,
    assignments: scenario.Assignments = None,
    form: flags.Format = "table",
    out: simulate_output.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Simulate and return the exit code."""
    asked_to_tell = told or {}
    simulate_output.checked(asked_to_tell, out, form, [*(trace or []), model, hw])
    asked = traffic.check(trace or [], words or {})
    device, ranks = flags.required("--hw", hw), _numbers(percentiles)
    from roofline_fast import _core
    from roofline_fast.cli import simulate_curve, simulate_screen
    from roofline_fast.cli.progress import shown
    from roofline_fast.simulation.run import simulate as one

    requests = traffic.loaded(
        trace or [],
        trace_flags.reading(reading or {}),
        scaling or {},
        asked,
        seed,
        arrivals_needed=concurrency is None,
        stream=simulate_output.stream(asked_to_tell, out, stream),
    )
    if len(requests) > 1:
        simulate_output.one_rate_only(asked_to_tell)
    written = simulate_output.streamed(asked_to_tell, out, stream)
    run = simulate_curve.each(one)
    progress = _core.Progress()
    began = time.perf_counter()
    with shown("simulating", progress, quiet=quiet):
        simulations = run(
            requests,
            hw=device,
            model=model,
            engine=engine,
            **flags.deployed(deployed or {}),
            techniques=techniques,
            mode=mode,
            efficiency=efficiency,
            act_quant=act_quant,
            launch=launch,
            p2p=p2p,
            host=flags.host(host),
            api_latency=api_latency,
            gpu_memory_utilization=gpu_memory_utilization,
            enforce_eager=enforce_eager,
            num_gpu_blocks_override=num_gpu_blocks_override,
            max_model_len=flags.size("--max-model-len", max_model_len),
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            block_size=block_size,
            enable_chunked_prefill=enable_chunked_prefill,
            enable_prefix_caching=enable_prefix_caching,
            async_scheduling=async_scheduling,
            scheduling_policy=scheduling_policy,
            watermark=watermark,
            long_prefill_token_threshold=long_prefill_token_threshold,
            long_prefill_token_threshold_adaptive=long_prefill_token_threshold_adaptive,
            scheduler_reserve_full_isl=scheduler_reserve_full_isl,
            prefill_schedule_interval=prefill_schedule_interval,
            max_num_active_seqs=max_num_active_seqs,
            max_prefill_tokens=max_prefill_tokens,
            schedule_conservativeness=schedule_conservativeness,
            enable_mixed_chunk=enable_mixed_chunk,
            capacity_scheduler_policy=capacity_scheduler_policy,
            preemption_mode=preemption_mode,
            swap_space=swap_space,
            swa_full_tokens_ratio=swa_full_tokens_ratio,
            mamba_full_memory_ratio=mamba_full_memory_ratio,
            usage_context=usage_context,
            performance_mode=performance_mode,
            kv_cache_memory_bytes=flags.size("--kv-cache-memory-bytes", kv_cache_memory_bytes),
            max_num_scheduled_tokens=max_num_scheduled_tokens,
            max_num_queued_reqs=max_num_queued_reqs,
            stream_interval=stream_interval,
            **(drafts or {}),
            step_cost=step_cost,
            session_mode=session_mode,
            concurrency=concurrency,
            think_time=think_time,
            max_concurrency=max_concurrency,
            warmup=warmup,
            measure=measure,
            over_context=over_context,
            use_recorded_cache=use_recorded_cache,
            slo=" ".join(slo) if slo else None,
            percentiles=ranks,
            seed=seed,
            record=simulate_output.record(asked_to_tell, out),
            requests_file=written,
            progress=progress,
        )
    talk.note(simulate_screen.speed(simulations, time.perf_counter() - began), quiet=quiet)
    if len(simulations) > 1:
        return _curve(simulations, traffic.rates(asked), ranks, form, out, quiet)
    simulation = simulations[0]
    simulate_output.write(simulation, asked_to_tell, out, written, quiet)
    count = asked_to_tell["explain"] or 0
    output.show(
        form,
        screen=lambda: simulate_screen.screen(simulation, ranks, count),
        record=lambda: simulate_output.as_record(simulation, count),
        frame=lambda: simulate_screen.one_row(simulation.summary),
    )
    return _verdict(simulation)


def _curve(
    simulations: list[Simulation],
    asked: list[str],
    ranks: list[float],
    form: str,
    out: Path | None,
    quiet: bool,
) -> int:
    """Show one row a rate, and return the exit code."""
    from roofline_fast.cli import simulate_curve
    from roofline_fast.simulation import rates

    rows = rates.rows(simulations, asked)
    if out is not None and output.is_folder(out):
        record = simulate_curve.record(simulations, asked)
        simulate_output.save_folder(out, record, {"curve": lambda file: output.save(rows, file)}, quiet)
    elif out is not None:
        output.save(rows, out)
        talk.note(f"{len(simulations)} rates written to {out}", quiet=quiet)
    output.show(
        form,
        screen=lambda: simulate_curve.screen(simulations, asked, max(ranks)),
        record=lambda: simulate_curve.record(simulations, asked),
        frame=lambda: rows,
    )
    return max(_verdict(simulation) for simulation in simulations)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        hint = "for example `50,90,99`"
        message = f"--percentiles must be numbers: {text}"
        raise SpecError(message, field="--percentiles", value=text, hint=hint) from None


def _verdict(simulation: Simulation) -> int:
    """Say on stderr where not every request was served."""
    summary = simulation.summary
    left = summary["injected"] - summary["completed"]
    if left == 0:
        return 0
    talk.say(f"warning: {left:,} of {summary['injected']:,} requests were not completed")
    if summary["rejected"]:
        length = simulation.settings["max_model_len"]
        why = f"longer than --max-model-len {length:,}"
        if simulation.settings.get("max_num_queued_reqs"):
            why += ", or came when --max-num-queued-reqs were waiting"
        talk.say(f"hint: {summary['rejected']:,} were {why}")
    return talk.PARTIAL
