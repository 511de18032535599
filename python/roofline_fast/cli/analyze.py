"""``roofline-fast analyze``: what a step costs, operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, scenario, talk
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.analysis import Analysis

HELP = """Price one step, or one whole request, operator by operator.

Prints what bounds it, whether it fits, and what would make it faster. Batch sizes are per data-parallel rank;
figures of operators are those of one GPU, the busiest.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("analyze", cls=Command, help=HELP)(analyze)


@with_flags("deployed", flags.DEPLOYED)
@with_flags("lowered", flags.LOWERED)
@with_flags("predicted", flags.PREDICTED)
@with_flags("drafts", flags.DRAFTS)
def analyze(
    model: flags.ModelArgument = None,
    hw: flags.Hw = None,
    model_flag: flags.ModelFlag = None,
    phase: Annotated[
        str | None,
        typer.Option(
            help="decode, prefill, mixed (decode and a prompt chunk), chat (a request) or encode. "
            "decode unless said, encode for models that generate nothing."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Sequences of each rank.")] = 1,
    input_len: Annotated[
        int | None,
        typer.Option("--input-len", "--isl", help="Prompt tokens; context for decode. 2048 unless said."),
    ] = None,
    output_len: Annotated[
        int | None, typer.Option("--output-len", "--osl", help="Tokens generated (chat). 256 unless said.")
    ] = None,
    prefix_len: Annotated[
        int, typer.Option("--prefix-len", "--prefix", help="Tokens cached in front of the input.")
    ] = 0,
    chunk: Annotated[
        int | None, typer.Option(help="Prompt tokens a step at most; for mixed 512 unless said.")
    ] = None,
    deployed: dict[str, Any] | None = None,
    kv_bits: Annotated[
        int | None, typer.Option(help="Bits of a KV element; with --compat.", rich_help_panel="Precision")
    ] = None,
    lowered: dict[str, Any] | None = None,
    techniques: flags.With = None,
    predicted: dict[str, Any] | None = None,
    engine: flags.Engine = "vllm",
    gpu_memory_utilization: flags.GpuMemoryUtilization = None,
    enforce_eager: flags.EnforceEager = None,
    block_size: flags.BlockSize = None,
    max_num_seqs: flags.MaxNumSeqs = None,
    max_num_batched_tokens: flags.MaxNumBatchedTokens = None,
    drafts: dict[str, Any] | None = None,
    config: scenario.Config = None,
    assignments: scenario.Assignments = None,
    compat: Annotated[
        str | None, typer.Option(help="llm-viewer[@version]: that tool's figures, its mistakes included.")
    ] = None,
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline", help="Draw operators under the device's roof, too.", rich_help_panel=flags.OUTPUT
        ),
    ] = False,
    form: flags.Format = "table",
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the table to FILE.parquet|csv|jsonl|json|html, or its roofline to FILE.svg.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = None,
    quiet: flags.Quiet = False,
) -> int:
    """Answer one question and return the exit code."""
    output.checked(form, out, model, model_flag, hw, pictures=compat is None)
    if roofline and compat is not None:
        message = "--roofline must be left out with --compat, whose operators are of one layer"
        raise SpecError(message, field="--roofline")
    from roofline_fast.analysis import analyze as ask
    from roofline_fast.cli import analyze_screen

    analysis = ask(
        flags.one_model(model, model_flag),
        flags.required("--hw", hw),
        phase=phase,
        batch_size=batch_size,
        input_len=input_len,
        output_len=output_len,
        prefix_len=prefix_len,
        chunk=chunk,
        **flags.deployed(deployed or {}),
        kv_bits=kv_bits,
        **(lowered or {}),
        techniques=techniques,
        **flags.predicted(predicted or {}),
        engine=engine,
        gpu_memory_utilization=gpu_memory_utilization,
        enforce_eager=enforce_eager,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        **(drafts or {}),
        compat=compat,
    )
    if out is not None:
        if out.suffix.lower() == output.PICTURE:
            from roofline_fast.cli import analyze_picture

            analyze_picture.save(analysis, out)
        else:
            output.save(analysis.ops, out)
        talk.note(f"{analysis.ops.height} operators written to {out}", quiet=quiet)

    def screen() -> str:
        if compat is not None:
            return analyze_screen.viewer_screen(analysis)
        shown = analyze_screen.screen(analysis, output.width())
        if not roofline:
            return shown
        from roofline_fast.cli.analyze_chart import chart

        return "\n".join([shown, "", *chart(analysis)])

    output.show(form, screen=screen, record=analysis.to_dict, frame=lambda: analysis.ops)
    return 0 if compat is not None else _verdict(analysis)


def _verdict(analysis: Analysis) -> int:
    """Say on stderr where the engine could not hold the sequences."""
    from roofline_fast.cli.figures import gib

    memory = analysis.memory
    if memory["fits"]:
        return 0
    needed, usable, what = memory["engine_memory_bytes"], memory["usable_bytes"], "GPU"
    if "beside" in memory:
        beside = memory["beside_weight_bytes"] + memory["beside_kv_bytes"]
        if beside > memory["beside_usable_bytes"]:
            needed, usable, what = beside, memory["beside_usable_bytes"], memory["beside"]
    whose = "of a GPU" if what == "GPU" else f"of the {what}"
    talk.say(
        f"error: the deployment must fit in the {gib(usable)} GiB an engine may use {whose}: {gib(needed)} GiB"
    )
    talk.say(
        "hint: use more devices (--tp, --pp), fewer bits (-q, --kv-cache-dtype), or fewer, shorter sequences"
    )
    return talk.INFEASIBLE
