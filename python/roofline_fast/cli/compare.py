"""``roofline-fast compare``: why one configuration is faster than another."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline_fast import checks
from roofline_fast.cli import flags, output, scenario, talk
from roofline_fast.cli.flags import with_flags
from roofline_fast.cli.grammar import Command
from roofline_fast.errors import SpecError
from roofline_fast.technique_files import short

if TYPE_CHECKING:
    from roofline_fast.comparison import Comparison
    from roofline_fast.served_comparison import ServedComparison

HELP = """Explain why B is faster or slower than A: a waterfall per operator and resource that adds up.

A and B are what one side has alone, as `key=value` separated by spaces, keys as the flags of analyze:
"tp=2 with=kv-quant:bits=4"; `base` for nothing. All flags hold for both. Times of a decode step are those
of one token.

Where traffic is named ("trace=chat.jsonl", --set num_prompts=100) both are simulated, keys as the flags of
simulate: metrics side by side, a request's time by phase, the engine's by operator and resource. A side may be
a file, too: what `vllm bench serve` or `simulate --format json` wrote, or a scenario (TOML, JSON). `base` beside
a measured file simulates the traffic that the file tells of.
"""
# Below this share of the whole a difference is rounding.
LEAST = 1e-9
# From so many times on a change is told as times, not in percent.
MANY = 10.0
# What is a text even where it looks like a number.
TEXTS = (
    "model",
    "hw",
    "quantization",
    "kv_cache_dtype",
    "mode",
    "engine",
    "phase",
    "trace",
    "fusion",
    "spec_method",
    "spec_model",
    "spec_acceptance",
    "slo",
)
WHOLE = (
    "tp",
    "pp",
    "dp",
    "ep",
    "batch_size",
    "prefix_len",
    "chunk",
    "w_bits",
    "a_bits",
)
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", cls=Command, help=HELP)(compare)


@with_flags("deployed", flags.DEPLOYED)
@with_flags("drafts", flags.DRAFTS)
def compare(
    a: Annotated[
        str | None, typer.Argument(metavar="A", help='"key=value …" of A alone, base, or a file.')
    ] = None,
    b: Annotated[str | None, typer.Argument(metavar="B", help="The same of B.")] = None,
    model: flags.ModelFlag = None,
    hw: flags.Hw = None,
    phase: Annotated[str | None, typer.Option(help="decode, prefill, mixed, chat or encode.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="Sequences of each rank (1).")
    ] = None,
    input_len: Annotated[
        int | None, typer.Option("--input-len", "--isl", help="Prompt tokens; context for decode.")
    ] = None,
    output_len: Annotated[
        int | None, typer.Option("--output-len", "--osl", help="Tokens generated (chat).")
    ] = None,
    deployed: dict[str, Any] | None = None,
    techniques: flags.With = None,
    mode: flags.Mode = "predicted",
    engine: flags.Engine = "vllm",
    drafts: dict[str, Any] | None = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            "--scenario",
            metavar="FILE",
            help="TOML or JSON: keywords of both; flags given here win.",
            rich_help_panel=scenario.SCENARIO,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other keyword of both; repeatable.",
            rich_help_panel=scenario.SCENARIO,
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of the waterfall on screen; the others together.")] = 12,
    form: flags.Format = "table",
    out: flags.Output = None,
    quiet: flags.Quiet = False,
) -> int:
    """Compare and return the exit code."""
    given = [flags.required(name, text) for name, text in (("A", a), ("B", b))]
    output.checked(form, out, model, hw, *given)
    checks.positive(top=top)
    from roofline_fast.comparison import compare as ask

    defaults: dict[str, Any] = {"tp": 1, "pp": 1, "dp": 1, "ep": 1, "mode": "predicted", "engine": "vllm"}
    shared: dict[str, Any] = {"model": model, "hw": hw, "phase": phase, "batch_size": batch_size}
    shared |= {"input_len": input_len, "output_len": output_len, "mode": mode, "engine": engine}
    shared |= {**flags.deployed(deployed or {}), **(drafts or {})}
    shared = {name: value for name, value in shared.items() if value not in (None, defaults.get(name))}
    shared |= keywords(" ".join(shlex.quote(word) for word in assignments or ()))
    shared = {**(_filed(config) if config is not None else {}), **shared}
    of_both = shared.pop("techniques", [])
    sides = [side(text, techniques or _several(of_both)) for text in given]
    found = ask(sides[0], sides[1], **shared)
    if out is not None:
        output.save(found.waterfall, out)
        talk.note(f"{found.waterfall.height} pieces written to {out}", quiet=quiet)
    output.show(form, screen=lambda: screen(found, top), record=found.to_dict, frame=lambda: found.waterfall)
    return 0


def _words(text: str) -> list[str]:
    """Return what spaces part, as a shell would."""
    try:
        return shlex.split(text)
    except ValueError:
        message = f"a side must close the quotes it opens: {text}"
        raise SpecError(message, field=text, value=text) from None


def side(text: str, techniques: list[str]) -> Any:
    """Return the keywords of one side, ``tp=2 with=kv-quant:bits=4`` or ``base``, or the file it is.

    `techniques` are those of both. A scenario may be followed by keywords that come before its own.

    Raises
    ------
    SpecError
        A word that is no ``key=value``, or a value that is no whole number where one is needed.
    """
    from roofline_fast import served_sides, user_files

    first, *rest = _words(text) or [""]
    if "=" in first or not user_files.is_path(first, ".json", ".toml"):
        own = keywords(text)
    else:
        content, origin = served_sides.read(first)
        own = keywords(" ".join(shlex.quote(word) for word in rest))
        if served_sides.is_result(content):
            if own:
                message = f"a file of results must stand alone: {text}"
                raise SpecError(message, field="side", value=text, hint="what was measured cannot be changed")
            return first
        own = {**served_sides.settings(content, origin), **own}
    own["techniques"] = [*techniques, *_several(own.get("techniques") or [])]
    return own


def _several(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


def _filed(config: Path) -> dict[str, Any]:
    """Return the keywords of both sides that a file gives."""
    from roofline_fast import served_sides

    return served_sides.settings(*served_sides.read(config, "--config"))


def keywords(text: str) -> dict[str, Any]:
    """Return keywords written ``key=value key=value``, names as flags have them.

    Raises
    ------
    SpecError
        A word that is no ``key=value``, one given twice, or a value that is no whole number where one is needed.
    """
    from roofline_fast.served_sides import SYNONYMS

    found: dict[str, Any] = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        key = key.lstrip("-").replace("-", "_")
        key = SYNONYMS.get(key, key)
        if not equals:
            if word == "base":
                continue
            hint = 'for example "tp=2 with=kv-quant:bits=4", base, or a file that ends in .json or .toml'
            raise SpecError(
                f"a side must read `key=value key=value`: `{word}`", field=word, value=word, hint=hint
            )
        if key == "techniques":
            found.setdefault(key, []).append(value)
        elif key in found:
            raise SpecError(f"{key} must be given once: {value}", field=key, value=value)
        else:
            found[key] = _value(key, value)
    return found


def _value(key: str, text: str) -> Any:
    if key in TEXTS:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            if key in WHOLE:
                break
    if key in WHOLE:
        raise SpecError(f"{key} must be a whole number: {text}", field=key, value=text)
    return _SWITCHES.get(text.lower(), text)


def screen(found: Comparison | ServedComparison, top: int) -> str:
    """Return what a comparison shows."""
    from roofline_fast.comparison import Comparison

    if isinstance(found, Comparison):
        return _screen(found, top)
    from roofline_fast.cli.compare_served import screen as served

    return served(found, top)


def _screen(found: Comparison, top: int) -> str:
    from roofline_fast.cli.figures import change, seconds, table

    what = "a token" if found.a.inputs["phase"] in ("decode", "mixed") else found.a.inputs["phase"]
    lines = [f"{name}  {_title(side)}: {seconds(time)} {what}" for name, side, time in _sides(found)]
    least = LEAST * max(found.a_s, found.b_s)
    more = "more" if found.delta_s > 0 else "less"
    longer = f"{seconds(abs(found.delta_s))} {more} ({change(found.b_s / found.a_s - 1)})"
    lines += [f"B takes {longer if abs(found.delta_s) >= least else 'as long'}", ""]
    lines += [*_position(found), ""]

    def cells(a: float, b: float, delta: float) -> list[str]:
        rounded = [0.0 if abs(value) < least else value for value in (a, b, delta)]
        return [*map(_time, rounded[:2]), _signed(rounded[2])]

    pieces = found.waterfall
    changed = int((pieces["delta_s"].abs() >= least).sum())
    shown = min(top, max(changed, 1))
    rows = [
        [row["op"], row["resource"], *cells(row["a_s"], row["b_s"], row["delta_s"])]
        for row in pieces.head(shown).iter_rows(named=True)
    ]
    if pieces.height > shown:
        rest = pieces.slice(shown).select("a_s", "b_s", "delta_s").sum().row(0)
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


def _position(found: Comparison) -> list[str]:
    """Return where both lie under the roofline: what a GPU computes and moves, holds, and is bound by."""
    from roofline_fast.cli.figures import change, digits, gib, percent, scaled, table

    rows: list[list[str]] = []
    sides = (found.a, found.b)

    def add(head: str, values: Sequence[float | None], shown: Callable[[float], str]) -> None:
        a, b = values
        cells = ["–" if value is None else shown(value) for value in values]
        ratio = b / a if a and b is not None else None
        by = "" if ratio is None else change(ratio - 1) if ratio < MANY else f"{digits(ratio)}x"
        rows.append([head, *cells, by])

    def size(value: float) -> str:
        return scaled(value, "B")

    work = {name: [side.totals["gpu"][name] for side in sides] for name in found.a.totals["gpu"]}
    add("FLOP", work["flops"], scaled)
    if work["vector_flops"][0] != work["vector_flops"][1]:
        add("vector FLOP", work["vector_flops"], scaled)
    add("bytes", work["bytes"], size)
    if any(work["link_bytes"]):
        add("over links", work["link_bytes"], size)
    add("FLOP/B", work["intensity"], digits)
    add("GiB held", [side.memory["memory_bytes"] for side in sides], gib)
    if all(side.memory["block_bytes"] > 0 for side in sides) and found.a.inputs["phase"] != "encode":
        add(
            "seqs that fit",
            [side.memory["engine_sequences"] for side in sides],
            lambda value: f"{value:,.0f}",
        )
    bounds = [next(iter(side.bounds.items()), ("", 0.0)) for side in sides]
    rows.append(["bound", *(f"{name} {percent(share)}" for name, share in bounds), ""])
    what = "a step" if found.a.inputs["phase"] in ("decode", "mixed") else found.a.inputs["phase"]
    return ["  " + line for line in table([f"one GPU, {what}", "A", "B", ""], rows)]


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
    parts += [f"batch {inputs['batch_size']:,} @ {inputs['input_len']:,}", *map(short, inputs["techniques"])]
    return " · ".join(parts)


def _time(value: float) -> str:
    from roofline_fast.cli.figures import seconds

    return f"−{seconds(-value)}" if value < 0 else seconds(value)


def _signed(value: float) -> str:
    from roofline_fast.cli.figures import seconds

    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{seconds(abs(value))}"
