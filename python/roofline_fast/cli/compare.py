"""``roofline-fast compare``: why one configuration is faster than another."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast import checks
from roofline_fast.cli import flags, output, talk
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError

if TYPE_CHECKING:
    from roofline_fast.comparison import Comparison

HELP = """Explain why B is faster or slower than A: a waterfall per operator and resource that adds up.

A and B are what one side has alone, as `key=value` separated by spaces, keys as the flags of analyze:
"tp=2 with=kv-quant:bits=4"; `base` for nothing. All flags hold for both. Times of a decode step are those
of one token.
"""
# Below this share of the whole a difference is rounding.
LEAST = 1e-9
WHOLE = (
    "tp",
    "pp",
    "dp",
    "ep",
    "batch_size",
    "input_len",
    "output_len",
    "prefix_len",
    "chunk",
    "w_bits",
    "a_bits",
)
SYNONYMS = {
    "hardware": "hw",
    "system": "hw",
    "gpu": "hw",
    "isl": "input_len",
    "osl": "output_len",
    "q": "quantization",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", cls=Command, help=HELP)(compare)


def compare(
    a: Annotated[str | None, typer.Argument(metavar="A", help='"key=value …" of A alone, or base.')] = None,
    b: Annotated[str | None, typer.Argument(metavar="B", help='"key=value …" of B alone.')] = None,
    model: flags.ModelFlag = None,
    hw: flags.Hw = None,
    phase: Annotated[str | None, typer.Option(help="decode, prefill, mixed, chat or encode.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Sequences of each rank.")] = 1,
    input_len: Annotated[
        int | None, typer.Option("--input-len", "--isl", help="Prompt tokens; context for decode.")
    ] = None,
    output_len: Annotated[
        int | None, typer.Option("--output-len", "--osl", help="Tokens generated (chat).")
    ] = None,
    tp: flags.Tp = 1,
    pp: flags.Pp = 1,
    dp: flags.Dp = 1,
    ep: flags.Ep = 1,
    quantization: flags.Quantization = None,
    kv_cache_dtype: flags.KvCacheDtype = None,
    techniques: flags.With = None,
    mode: flags.Mode = "predicted",
    engine: flags.Engine = "vllm",
    top: Annotated[int, typer.Option(help="Rows of the waterfall on screen; the others together.")] = 12,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Compare and return the exit code."""
    output.checked(form, out, model, hw)
    checks.positive(top=top)
    sides = [side(flags.required(name, text)) for name, text in (("A", a), ("B", b))]
    from roofline_fast.comparison import compare as ask

    shared: dict[str, Any] = {"model": model, "hw": hw, "phase": phase, "batch_size": batch_size}
    shared |= {"input_len": input_len, "output_len": output_len, "tp": tp, "pp": pp, "dp": dp, "ep": ep}
    shared |= {"quantization": quantization, "kv_cache_dtype": kv_cache_dtype, "mode": mode, "engine": engine}
    for one in sides:
        one["techniques"] = [*(techniques or ()), *one.pop("with", [])]
    found = ask(sides[0], sides[1], **shared)
    if out is not None:
        output.save(found.waterfall, out)
        talk.note(f"{found.waterfall.height} pieces written to {out}", quiet=quiet)
    output.show(form, screen=lambda: _screen(found, top), record=found.to_dict, frame=lambda: found.waterfall)
    return 0


def side(text: str) -> dict[str, Any]:
    """Return the keywords of one side: ``tp=2 with=kv-quant:bits=4`` or ``base``.

    Raises
    ------
    SpecError
        A word that is no ``key=value``, or a value that is no whole number where one is needed.
    """
    keywords: dict[str, Any] = {}
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        key = key.lstrip("-").replace("-", "_")
        key = SYNONYMS.get(key, key)
        if not equals:
            if word == "base":
                continue
            hint = 'for example "tp=2 with=kv-quant:bits=4", or base'
            raise SpecError(
                f"a side must read `key=value key=value`: `{word}`", field=word, value=word, hint=hint
            )
        if key in ("with", "techniques"):
            keywords.setdefault("with", []).append(value)
        elif key in WHOLE:
            keywords[key] = _whole(key, value)
        else:
            keywords[key] = value
    return keywords


def _whole(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise SpecError(f"{key} must be a whole number: {value}", field=key, value=value) from None


def _screen(found: Comparison, top: int) -> str:
    from roofline_fast.cli.figures import change, seconds, table

    what = "a token" if found.a.inputs["phase"] in ("decode", "mixed") else found.a.inputs["phase"]
    lines = [f"{name}  {_title(side)}: {seconds(time)} {what}" for name, side, time in _sides(found)]
    more = "more" if found.delta_s > 0 else "less"
    lines += [f"B takes {seconds(abs(found.delta_s))} {more} ({change(found.b_s / found.a_s - 1)})", ""]
    least = LEAST * max(found.a_s, found.b_s)

    def cells(a: float, b: float, delta: float) -> list[str]:
        shown = [0.0 if abs(value) < least else value for value in (a, b, delta)]
        return [*map(_time, shown[:2]), _signed(shown[2])]

    rows = [
        [row["op"], row["resource"], *cells(row["a_s"], row["b_s"], row["delta_s"])]
        for row in found.waterfall.head(top).iter_rows(named=True)
    ]
    if found.waterfall.height > top:
        rest = found.waterfall.slice(top).select("a_s", "b_s", "delta_s").sum().row(0)
        rows.append(["all others", "", *cells(*rest)])
    rows.append(["together", "", *cells(found.a_s, found.b_s, found.delta_s)])
    lines += ["  " + line for line in table(["operator", "resource", "A", "B", "B − A"], rows, left=(0, 1))]
    parts = " · ".join(
        f"{row['resource']} {_signed(row['delta_s'])}"
        for row in found.by_resource.iter_rows(named=True)
        if abs(row["delta_s"]) >= least
    )
    lines += ["", f"  by resource  {parts or 'no difference'}"]
    return "\n".join([*lines, *(f"  note: {note}" for note in found.notes)])


def _sides(found: Comparison) -> list[tuple[str, Any, float]]:
    return [("A", found.a, found.a_s), ("B", found.b, found.b_s)]


def _title(side: Any) -> str:
    inputs = side.inputs
    layout = ", ".join(f"{axis} {inputs[axis]}" for axis in ("tp", "pp", "dp", "ep") if inputs[axis] > 1)
    parts = [
        side.model.title,
        f"{side.deployment.gpus}x {side.hardware.title}" + (f" ({layout})" if layout else ""),
    ]
    parts += [f"{inputs['quantization']} weights, {inputs['kv_cache_dtype']} KV"]
    parts += [f"batch {inputs['batch_size']:,} @ {inputs['input_len']:,}", *inputs["techniques"]]
    return " · ".join(parts)


def _time(value: float) -> str:
    from roofline_fast.cli.figures import seconds

    return f"−{seconds(-value)}" if value < 0 else seconds(value)


def _signed(value: float) -> str:
    from roofline_fast.cli.figures import seconds

    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{seconds(abs(value))}"
