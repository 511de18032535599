"""What ``analyze`` shows: header, times, memory, operators, and what would make it faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import (
    band,
    bar,
    change,
    digits,
    gib,
    milliseconds,
    percent,
    scaled,
    seconds,
    table,
)
from roofline_fast.technique_files import short

if TYPE_CHECKING:
    from roofline_fast.analysis import Analysis

# What may be said of a roofline that predicts nothing.
DATASHEET_ONLY = "ideal roofline only: datasheet; expect real engines to be 1.3–2x slower"


def screen(analysis: Analysis, width: int | None = None) -> str:
    """Return the screen as text, its table within so many columns if that is said."""
    operators = _operators(analysis, width)
    turning = [*_turning_points(analysis), *_cost(analysis)]
    blocks = [_header(analysis), *operators, "", *turning, _fidelity(analysis)]
    notes = [f"  note: {note}" for note in analysis.notes]
    return "\n".join([*blocks, *notes])


def _header(analysis: Analysis) -> str:
    lines = [_title(analysis), _times(analysis), _memory(analysis)]
    return "\n".join([*lines, ""])


def deployment_title(analysis: Analysis) -> str:
    """Return devices and layout: ``8x H100-SXM (tp 8)``."""
    gpus, inputs = analysis.deployment.gpus, analysis.inputs
    layout = ", ".join(f"{axis} {inputs[axis]}" for axis in ("tp", "pp", "dp", "ep") if inputs[axis] > 1)
    return f"{gpus}x {analysis.hardware.title}" + (f" ({layout})" if layout else "")


def assumed(analysis: Analysis, *, sizes: bool) -> str:
    """Return what answers about a decode step rest on, techniques apart; its batch and context where they have one."""
    parts = [analysis.model.title, _precision(analysis.inputs), deployment_title(analysis)]
    fits = analysis.memory["engine_sequences"]
    asked = [f"{_asked(analysis.inputs)} ({fits:,} fit)"] if sizes else []
    return " · ".join([*parts, *asked, f"{analysis.inputs['mode']} times"])


def _precision(inputs: dict[str, Any]) -> str:
    precision = f"{inputs['quantization']} weights"
    return precision if inputs["phase"] == "encode" else f"{precision}, {inputs['kv_cache_dtype']} KV"


def _title(analysis: Analysis) -> str:
    inputs = analysis.inputs
    parts = [analysis.model.title, _precision(inputs), *map(short, analysis.deployment.techniques)]
    return " · ".join([*parts, deployment_title(analysis), _asked(inputs)])


def _asked(inputs: dict[str, Any]) -> str:
    """Say what was asked about, assumptions included."""
    batch, length = f"{inputs['batch_size']:,}", f"{inputs['input_len']:,}"
    sequences = (
        f"{batch} seq" + ("" if inputs["batch_size"] == 1 else "s") + (" a rank" if inputs["dp"] > 1 else "")
    )
    prefix = f" on a cached prefix of {inputs['prefix_len']:,}" if inputs["prefix_len"] else ""
    chunks = f" in chunks of {inputs['chunk']:,}" if inputs["chunk"] else ""
    match inputs["phase"]:
        case "decode":
            return f"decode step, {sequences} @ {length} ctx{prefix}"
        case "prefill":
            return f"prefill, {sequences} of {length} tokens{chunks}{prefix}"
        case "mixed":
            return (
                f"decode step, {sequences} @ {length} ctx, and a prompt chunk of {inputs['chunk']:,}{prefix}"
            )
        case "chat":
            return f"request, {sequences}, {length} tokens in{chunks}{prefix}, {inputs['output_len']:,} out"
        case _:
            return f"encoder pass, {sequences} of {length} tokens"


def _times(analysis: Analysis) -> str:
    predicted = seconds(analysis.step_s)
    if analysis.low_s is not None and analysis.high_s is not None:
        predicted += f" ({band(analysis.low_s, analysis.high_s, analysis.step_s)})"
    inputs = analysis.inputs
    what = {"decode": "step", "mixed": "step", "chat": "request"}.get(inputs["phase"], inputs["phase"])
    parts = [f"{what} {predicted}"]
    if inputs["phase"] == "chat":
        ttft = _banded(analysis.ttft_s, analysis.ttft_low_s, analysis.ttft_high_s)
        tpot = _banded(analysis.tpot_s, analysis.tpot_low_s, analysis.tpot_high_s)
        parts.append(f"TTFT {ttft}, TPOT {tpot}")
    parts.append(f"{digits(analysis.tokens_per_gpu_s * analysis.deployment.gpus)} tok/s")
    if analysis.deployment.gpus > 1:
        parts.append(f"{digits(analysis.tokens_per_gpu_s)} tok/s/GPU")
    if inputs["mode"] == "predicted":
        parts.append(f"ideal roofline {seconds(analysis.ideal_s)}")
    shares = ", ".join(f"{name} {percent(share)}" for name, share in analysis.bounds.items() if share > 0)
    parts.append(f"bound: {shares}")
    return f"  {inputs['mode']:<10}  " + "   ".join(parts)


def _banded(value: float | None, low: float | None, high: float | None) -> str:
    between = "" if low is None or high is None else f" ({milliseconds(low)}–{milliseconds(high)})"
    return f"{_ms(value)}{between}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{milliseconds(value)} ms"


def _memory(analysis: Analysis) -> str:
    """Give both answers: by bytes alone, and as the engine allocates."""
    memory, inputs = analysis.memory, analysis.inputs
    answer = inputs["output_len"] if inputs["phase"] == "chat" else 0
    context = f" @ {inputs['prefix_len'] + inputs['input_len'] + answer:,}"
    ideal = (
        f"  memory/GPU  weights {gib(memory['weight_bytes'])} + KV {gib(memory['kv_bytes'])} + activations "
        f"{gib(memory['activation_bytes'])} = {gib(memory['memory_bytes'])} of "
        f"{gib(memory['capacity_bytes'])} GiB"
    )
    engine = (
        f"  {inputs['engine']:<10}  weights {gib(memory['weight_bytes'])} + activations "
        f"{gib(memory['engine_activation_bytes'])} + runtime {gib(memory['runtime_bytes'])}, "
        f"{gib(memory['for_kv_bytes'])} left for KV of {gib(memory['usable_bytes'])} GiB usable"
    )
    if memory["block_bytes"] > 0 and inputs["phase"] != "encode":
        ideal += f"   max {memory['ideal_sequences']:,} seqs{context}"
        engine += f"   max {memory['engine_sequences']:,} seqs{context}"
    if not memory["fits"]:
        engine += "   DOES NOT FIT"
    if "beside" in memory:
        engine += (
            f"\n  {memory['beside']}  weights {gib(memory['beside_weight_bytes'])} + "
            f"KV {gib(memory['beside_kv_bytes'])} of {gib(memory['beside_capacity_bytes'])} GiB"
        )
    return f"{ideal}\n{engine}"


# What a narrow screen leaves out, in turn: a bar says its share again, the intensity what stands before it.
EXPENDABLE = ("", "FLOP/B", "ideal", "x")


def _operators(analysis: Analysis, width: int | None) -> list[str]:
    header = ["operator", "x", "FLOP", "bytes", "FLOP/B", "ideal", "predicted", "share", "bound", ""]
    rows = [
        [
            op["op"],
            f"{op['repeat']:,.0f}",
            scaled(op["flops"] + op["vector_flops"]),
            scaled(op["bytes"] or op["link_bytes"], "B"),
            "–" if op["intensity"] is None else digits(op["intensity"]),
            seconds(op["ideal_s"]),
            seconds(op["predicted_s"]),
            percent(op["share"]),
            op["bound"],
            "▏" + bar(op["share"]),
        ]
        for op in analysis.ops.iter_rows(named=True)
        if op["bound"] != "fused"
    ]
    left_out: list[str] = []
    while True:
        kept = [place for place, name in enumerate(header) if name not in left_out]
        cut = [[row[place] for place in kept] for row in [header, *rows]]
        left = tuple(at for at, place in enumerate(kept) if place in (0, 8, 9))
        lines = ["  " + line for line in table(cut[0], cut[1:], left)]
        if width is None or max(map(len, lines)) <= width or len(left_out) == len(EXPENDABLE):
            return lines + _fused(analysis)
        left_out.append(EXPENDABLE[len(left_out)])


def _fused(analysis: Analysis) -> list[str]:
    """Name the operators that take no time of their own; the frame has each of them."""
    fused = analysis.ops.filter(analysis.ops["bound"] == "fused")["op"]
    names = dict.fromkeys(name.partition("[")[0] for name in fused)
    return [f"  inside their neighbours: {', '.join(names)}"] if names else []


def _turning_points(analysis: Analysis) -> list[str]:
    intensity, number_format = analysis.ridge
    turns = analysis.compute_bound_tokens
    batch = "never" if turns is None else f"at ~{digits(turns)} tokens a step"
    link = "" if analysis.link_ridge is None else f", of the link {digits(analysis.link_ridge)}"
    faster = analysis.sensitivity
    what = {"bandwidth": "bandwidth", "compute": "FLOP/s", "link": "link"}
    crosses = analysis.totals["gpu"]["link_bytes"] > 0
    told = (name for name in faster if name != "link" or crosses)
    gains = " · ".join(f"+10 % {what[name]} → {change(faster[name])} time" for name in told)
    return [
        f"  ridge point {digits(intensity)} FLOP/B ({number_format}){link} · GEMMs turn compute-bound {batch}",
        f"  faster by   {gains}",
    ]


def _cost(analysis: Analysis) -> list[str]:
    """Say what a token costs, where price or power of the device are known: both are assumed."""
    said = []
    if analysis.usd is not None and analysis.tokens:
        said.append(f"{digits(analysis.usd / analysis.tokens * 1e6)} USD a million tokens")
    if analysis.energy_j is not None and analysis.tokens:
        said.append(f"{digits(analysis.energy_j / analysis.tokens)} J a token")
    return (
        [f"  cost        {' · '.join(said)} (assumed: `catalog hardware` has rent and power)"] if said else []
    )


def _fidelity(analysis: Analysis) -> str:
    around = None
    if analysis.low_s is not None and analysis.high_s is not None:
        around = (analysis.low_s / analysis.step_s, analysis.high_s / analysis.step_s)
    return f"  fidelity    {fidelity(analysis.source, around)}"


def fidelity(source: str, around: tuple[float, float] | None) -> str:
    """Say what a time rests on, and how wrong it may be: ``fitted(h100-sxm/vllm): step ±8 % (80 % band)``."""
    if source == "datasheet":
        return DATASHEET_ONLY
    if around is None:
        return source
    return f"{source}: step ±{(around[1] - around[0]) / 2 * 100:.0f} % (80 % band)"


def viewer_screen(analysis: Analysis) -> str:
    """Return LLM-Viewer's answer as text: one layer's operators, and the totals of all layers."""
    inputs = analysis.inputs
    lines = [
        f"{analysis.model.title} · {inputs['hw']} · figures of {inputs['compat']}, its mistakes included",
        "",
    ]
    if inputs["phase"] == "chat":
        lines += [f"  {name}  {seconds(value)}" for name, value in analysis.totals.items()]
        return "\n".join(lines)
    header = ["operator of one layer", "OPs", "bytes", "OP/B", "OP/s", "time", "bound"]
    rows = [
        [
            op["op"],
            scaled(op["OPs"]),
            scaled(op["memory_access"], "B"),
            digits(op["arithmetic_intensity"]),
            scaled(op["performance"]),
            seconds(op["inference_time"]),
            op["bound"],
        ]
        for op in analysis.ops.iter_rows(named=True)
        if op["phase"] == inputs["phase"]
    ]
    totals = analysis.totals[inputs["phase"]]
    memory = (
        f"weights {gib(totals['memory_consumption_weight'])}, KV {gib(totals['memory_consumption_kv_cache'])}"
    )
    lines += ["  " + line for line in table(header, rows, left=(0, 6))]
    lines += [
        "",
        f"  {inputs['phase']}: {seconds(totals['inference_time'])}, {scaled(totals['OPs'])}OP, "
        f"{scaled(totals['memory_access'], 'B')}; memory {gib(totals['memory_consumption'])} GiB ({memory})",
    ]
    return "\n".join(lines)
