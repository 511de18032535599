"""``roofline-fast simulate``: traffic through an engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import (
    engine_flags,
    flags,
    output,
    scenario,
    simulate_output,
    talk,
    trace_flags,
    traffic,
)
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
@with_flags("predicted", flags.PREDICTED)
@with_flags("settings", engine_flags.SETTINGS)
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
    predicted: dict[str, Any] | None = None,
    api_latency: flags.ApiLatency = None,
    engine: flags.Engine = "vllm",
    settings: dict[str, Any] | None = None,
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
            **flags.predicted(predicted or {}),
            api_latency=api_latency,
            **engine_flags.settings(settings or {}),
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
