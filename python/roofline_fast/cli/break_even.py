"""``roofline-fast break-even``: where techniques begin and cease to pay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast.cli import flags, output, scenario, talk
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    import polars as pl

HELP = """Solve where techniques begin and cease to pay in decode, on the exact cost.

From which batch linear layers are compute-bound; of each technique and format, compared with the same without
it alone, from and up to which batch it gains; from which acceptance drafts pay; at which context the cache
outweighs the weights. --map shows what bounds a step over batch and context, of those sizes (1:1024:x4) if they
are given.
"""
# What the map asks about unless said.
BATCHES = "1:1024:x4"
CONTEXTS = "256:65536:x4"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("break-even", cls=Command, help=HELP)(break_even)


@with_flags("deployed", flags.DEPLOYED)
@with_flags("lowered", flags.LOWERED)
@with_flags("drafts", flags.DRAFTS)
def break_even(
    model: flags.ModelArgument = None,
    hw: flags.Hw = None,
    model_flag: flags.ModelFlag = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size", "-b", metavar="N", help="Sequences of each rank, 1 unless said; of --map several."
        ),
    ] = None,
    input_len: Annotated[
        str | None,
        typer.Option(
            "--input-len",
            "--isl",
            metavar="N",
            help="Tokens in the cache of each, 2048 unless said; of --map several.",
        ),
    ] = None,
    deployed: dict[str, Any] | None = None,
    lowered: dict[str, Any] | None = None,
    techniques: flags.With = None,
    mode: flags.Mode = "ideal",
    efficiency: flags.Efficiency = None,
    engine: flags.Engine = "vllm",
    drafts: dict[str, Any] | None = None,
    config: scenario.Config = None,
    assignments: scenario.Assignments = None,
    bounds: Annotated[
        bool, typer.Option("--map", help="What bounds a step, and the cache's share of its bytes, instead.")
    ] = False,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Solve and return the exit code."""
    output.checked(form, out, model, model_flag, hw)
    from roofline_fast import analysis, comparison

    asked: dict[str, Any] = {**flags.deployed(deployed or {}), **(lowered or {}), **(drafts or {})}
    asked |= {"techniques": techniques, "mode": mode, "efficiency": efficiency, "engine": engine}
    named, device = flags.one_model(model, model_flag), flags.required("--hw", hw)
    if bounds:
        batches, contexts = (
            _sizes("batch_size", batch_size or BATCHES),
            _sizes("input_len", input_len or CONTEXTS),
        )
        answers = comparison.bound_map(named, device, batch_size=batches, context=contexts, **asked)
        about: dict[str, Any] = {}
    else:
        batch, context = _one("batch_size", batch_size or "1"), _one("input_len", input_len or "2048")
        about = {"batch_size": batch, "input_len": context}
        answers = comparison.break_even(named, device, **about, **asked)
    if out is not None:
        output.save(answers, out)
        talk.note(f"{answers.height} answers written to {out}", quiet=quiet)
    shown = _map if bounds else _screen

    def screen() -> str:
        from roofline_fast.cli.analyze_screen import assumed

        answered = analysis.analyze(named, device, phase="decode", **about, **asked)
        notes = [f"  note: {note}" for note in answered.notes if note.startswith("`")]
        return "\n".join([assumed(answered, sizes=not bounds), "", shown(answers), *notes])

    output.show(form, screen=screen, record=answers.to_dicts, frame=lambda: answers)
    return 0


def _sizes(name: str, text: str) -> list[int]:
    """Return the sizes that a flag of the map names, in order and once each."""
    from roofline_fast.sweeps import axes as sweep_axes

    return sorted(set(sweep_axes.values(name, text)))


def _one(name: str, text: str) -> int:
    """Return the one size that answers are about."""
    sizes = _sizes(name, text)
    if len(sizes) > 1:
        hint = "only --map takes several"
        raise SpecError(f"{name} must be one number: {text}", field=name, value=text, hint=hint)
    return sizes[0]


def _map(found: pl.DataFrame) -> str:
    """Return a row a batch, a column a context: what bounds the step, and the cache's share of the bytes."""
    from roofline_fast.cli.figures import percent, table

    batches, contexts = (found[name].unique(maintain_order=True) for name in ("batch_size", "context"))
    cells = {
        (row["batch_size"], row["context"]): f"{row['bound']} {percent(row['kv_share'])}"
        for row in found.iter_rows(named=True)
    }
    rows = [[f"{batch:,}", *(cells[batch, context] for context in contexts)] for batch in batches]
    header = ["batch \\ context", *(f"{context:,}" for context in contexts)]
    said = "what bounds a decode step, and the share of its bytes that is cache"
    return "\n".join([said, "", *table(header, rows)])


def _screen(answers: pl.DataFrame) -> str:
    """Return a row an answer, those of one technique together under its name."""
    from roofline_fast.cli.figures import table

    rows = [
        [row["name"].replace("_", " "), _number(row["value"]), row["unit"], row["about"]]
        for row in answers.iter_rows(named=True)
    ]
    lines = table(["", "", "unit", "meaning"], rows, left=(0, 2, 3))
    shown, of = lines[:1], ""
    for line, technique in zip(lines[1:], answers["technique"], strict=True):
        if technique != of:
            shown += ["", *_title(technique)]
        of = technique
        shown.append(line)
    return "\n".join(shown)


def _title(technique: str) -> list[str]:
    if not technique:
        return []
    without = "none of them" if technique == "all together" else "the same without it"
    return [f"{technique}, compared with {without}"]


def _number(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"
