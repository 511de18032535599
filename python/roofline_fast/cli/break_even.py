"""``roofline-fast break-even``: where techniques begin and cease to pay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.grammar import Command

if TYPE_CHECKING:
    import polars as pl

HELP = """Solve where techniques begin and cease to pay in decode, on the exact cost.

From which batch linear layers are compute-bound, at which a gain is gone, from which acceptance speculation
pays, at which context the cache outweighs the weights.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("break-even", cls=Command, help=HELP)(break_even)


def break_even(
    model: flags.ModelArgument = None,
    hw: flags.Hw = None,
    model_flag: flags.ModelFlag = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Sequences of each rank.")] = 1,
    input_len: Annotated[
        int, typer.Option("--input-len", "--isl", help="Tokens in the cache of each.")
    ] = 2048,
    tp: flags.Tp = 1,
    pp: flags.Pp = 1,
    dp: flags.Dp = 1,
    ep: flags.Ep = 1,
    quantization: flags.Quantization = None,
    kv_cache_dtype: flags.KvCacheDtype = None,
    techniques: flags.With = None,
    mode: flags.Mode = "ideal",
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Solve and return the exit code."""
    output.checked(form, out, model, model_flag, hw)
    from roofline_fast.comparison import break_even as ask

    answers = ask(
        flags.one_model(model, model_flag),
        flags.required("--hw", hw),
        techniques=techniques,
        batch_size=batch_size,
        input_len=input_len,
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        mode=mode,
    )
    if out is not None:
        output.save(answers, out)
        talk.note(f"{answers.height} answers written to {out}", quiet=quiet)
    output.show(form, screen=lambda: _screen(answers), record=answers.to_dicts, frame=lambda: answers)
    return 0


def _screen(answers: pl.DataFrame) -> str:
    from roofline_fast.cli.figures import table

    rows = [
        [row["name"].replace("_", " "), _number(row["value"]), row["unit"], row["about"]]
        for row in answers.iter_rows(named=True)
    ]
    return "\n".join(table(["", "", "unit", "meaning"], rows, left=(0, 2, 3)))


def _number(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"
