"""Flags that several commands share: one name, one help text, one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from roofline_fast.errors import SpecError

T = TypeVar("T")

LAYOUT = "Layout"
PRECISION = "Precision"
LOWERING = "How it runs"
ENGINE = "Engine (vLLM's names; the engine's own choice unless said)"
OUTPUT = "Output"

ModelArgument = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="Catalogue name, Hugging Face id, config.json or its folder."),
]
ModelFlag = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        "--model-path",
        help="Catalogue name, Hugging Face id, config.json or its folder.",
        show_default=False,
    ),
]
Hw = Annotated[
    str | None,
    typer.Option("--hw", "--hardware", "--system", "--gpu", help="Catalogue name (h100-sxm) or a TOML file."),
]
Tp = Annotated[
    int,
    typer.Option(
        "--tp", "--tensor-parallel-size", help="GPUs that share every layer.", rich_help_panel=LAYOUT
    ),
]
Pp = Annotated[
    int, typer.Option("--pp", "--pipeline-parallel-size", help="Pipeline stages.", rich_help_panel=LAYOUT)
]
Dp = Annotated[int, typer.Option("--dp", "--data-parallel-size", help="Replicas.", rich_help_panel=LAYOUT)]
Ep = Annotated[
    int,
    typer.Option(
        "--ep", "--expert-parallel-size", help="GPUs that share the experts.", rich_help_panel=LAYOUT
    ),
]
EnableExpertParallel = Annotated[
    bool,
    typer.Option("--enable-expert-parallel", help="The same as --ep TP×DP.", rich_help_panel=LAYOUT),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        "--quantization",
        "-q",
        "--dtype",
        help="bf16, fp8, int8, w4a16, nvfp4, mxfp4, …; the checkpoint's own unless said.",
        rich_help_panel=PRECISION,
    ),
]
KvCacheDtype = Annotated[
    str | None, typer.Option(help="auto, bf16, fp8, int8 or int4.", rich_help_panel=PRECISION)
]
WBits = Annotated[
    int | None, typer.Option(help="Bits of a weight, instead of -q.", rich_help_panel=PRECISION)
]
ABits = Annotated[
    int | None, typer.Option(help="Bits of an activation, instead of -q.", rich_help_panel=PRECISION)
]
Fusion = Annotated[
    str | None, typer.Option(help="Element-wise work fused: full, engine, none.", rich_help_panel=LOWERING)
]
FlashAttention = Annotated[
    bool | None,
    typer.Option(
        "--flash-attention/--no-flash-attention",
        help="Attention as one operator (yes unless --compat).",
        rich_help_panel=LOWERING,
    ),
]
Overlap = Annotated[
    float, typer.Option(help="Share of communication hidden behind computation.", rich_help_panel=LOWERING)
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="NAME[:KEY=VALUE,…]",
        help="A technique, repeatable; `catalog techniques` lists them.",
        rich_help_panel=LOWERING,
    ),
]
Mode = Annotated[
    str,
    typer.Option(help="predicted (an engine) or ideal (the datasheet's roofline).", rich_help_panel=LOWERING),
]
Efficiency = Annotated[
    Path | None,
    typer.Option(
        help="Fits before the shipped: a TOML file, or the device they are of.", rich_help_panel=LOWERING
    ),
]
ActQuant = Annotated[
    str | None,
    typer.Option(help="Activations quantised: fused, static or dynamic.", rich_help_panel=LOWERING),
]
Launch = Annotated[
    str | None, typer.Option(help="Kernels launched: graph or eager.", rich_help_panel=LOWERING)
]
P2p = Annotated[
    bool | None,
    typer.Option("--p2p/--no-p2p", help="GPUs on PCIe reach each other's memory.", rich_help_panel=LOWERING),
]
Host = Annotated[
    str | None,
    typer.Option(
        metavar="H0[,H1[,LAUNCH]]",
        help="The host: ms a step and a sequence of it that no kernel hides, ms to launch a kernel for prompts.",
        rich_help_panel=LOWERING,
    ),
]
ApiLatency = Annotated[
    float | None,
    typer.Option(help="ms clients wait outside the engine; 4.5 unless said.", rich_help_panel=LOWERING),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        "--backend",
        help="vllm, vllm-sync, vllm-v0, sarathi, orca, static, sglang or trtllm.",
        rich_help_panel=ENGINE,
    ),
]
GpuMemoryUtilization = Annotated[
    float | None,
    typer.Option(
        "--gpu-memory-utilization",
        "--mem-fraction-static",
        "--free-gpu-memory-fraction",
        help="Share of GPU memory, as the engine counts it.",
        rich_help_panel=ENGINE,
    ),
]
EnforceEager = Annotated[
    bool | None,
    typer.Option(
        "--enforce-eager/--no-enforce-eager", help="Keep no memory for CUDA graphs.", rich_help_panel=ENGINE
    ),
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        "--block-size",
        "--page-size",
        "--tokens-per-block",
        help="Tokens of a KV block.",
        rich_help_panel=ENGINE,
    ),
]
MaxNumSeqs = Annotated[
    int | None,
    typer.Option(
        "--max-num-seqs",
        "--max-running-requests",
        "--max-batch-size",
        help="Sequences running at once.",
        rich_help_panel=ENGINE,
    ),
]
MaxNumBatchedTokens = Annotated[
    int | None,
    typer.Option(
        "--max-num-batched-tokens",
        "--chunked-prefill-size",
        "--max-num-tokens",
        "--chunk-size",
        help="Tokens of a step; prompt tokens for sglang.",
        rich_help_panel=ENGINE,
    ),
]
SpecMethod = Annotated[
    str | None,
    typer.Option(help="Drafts: ngram, draft-model, medusa, eagle, mtp or dflash.", rich_help_panel=ENGINE),
]
SpecModel = Annotated[
    str | None,
    typer.Option("--spec-model", "--draft-model", help="The model that drafts.", rich_help_panel=ENGINE),
]
NumSpeculativeTokens = Annotated[
    int | None,
    typer.Option(
        "--num-speculative-tokens",
        "--spec-tokens",
        "--nextn",
        help="Drafts a step.",
        rich_help_panel=ENGINE,
    ),
]
SpecAcceptance = Annotated[
    str | None,
    typer.Option(
        help="Chance that a draft is accepted, one a position, or pattern:A,B.", rich_help_panel=ENGINE
    ),
]
# What is deployed, and how its weights and cache are kept; `deployed` turns it into keywords.
DEPLOYED: dict[str, Any] = {
    "tp": (Tp, 1),
    "pp": (Pp, 1),
    "dp": (Dp, 1),
    "ep": (Ep, 1),
    "enable_expert_parallel": (EnableExpertParallel, False),
    "quantization": Quantization,
    "kv_cache_dtype": KvCacheDtype,
    "w_bits": WBits,
    "a_bits": ABits,
}
# How it is lowered to operators.
LOWERED: dict[str, Any] = {
    "fusion": Fusion,
    "flash_attention": FlashAttention,
    "overlap": (Overlap, 0.0),
}
# What turns its roofline into a prediction.
PREDICTED: dict[str, Any] = {
    "mode": (Mode, "predicted"),
    "efficiency": Efficiency,
    "act_quant": ActQuant,
    "launch": Launch,
    "p2p": P2p,
    "host": Host,
}
# What the engine drafts, under the engine's names.
DRAFTS: dict[str, Any] = {
    "spec_method": SpecMethod,
    "spec_model": SpecModel,
    "num_speculative_tokens": NumSpeculativeTokens,
    "spec_acceptance": SpecAcceptance,
}


CLIENT = "How requests are sent, and which are measured"
SessionMode = Annotated[
    str,
    typer.Option(
        help="closed: turns wait for the answers they follow; open: recorded times.", rich_help_panel=CLIENT
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(help="Users, each with one request at a time, instead of arrivals.", rich_help_panel=CLIENT),
]
ThinkTime = Annotated[
    float, typer.Option(help="ms between an answer and a user's next request.", rich_help_panel=CLIENT)
]
MaxConcurrency = Annotated[
    int | None,
    typer.Option(help="Requests in flight at most; latencies count from sending.", rich_help_panel=CLIENT),
]
Warmup = Annotated[
    str | None,
    typer.Option(metavar="N|TIME", help="Leave out the first requests, or 30s.", rich_help_panel=CLIENT),
]
Measure = Annotated[
    str | None,
    typer.Option(metavar="N|TIME", help="Keep so many requests, or 5min, after it.", rich_help_panel=CLIENT),
]
TraceArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TRACE…",
        help="JSON Lines, JSON, CSV or Parquet, also packed: files, a folder, a pattern, or - (stdin).",
    ),
]
Format = Annotated[str, typer.Option("--format", help="table, json or csv.", rich_help_panel=OUTPUT)]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write the table to FILE.parquet|csv|jsonl|json|html.", rich_help_panel=OUTPUT
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No talk on stderr.", rich_help_panel=OUTPUT)]


def required(flag: str, value: T | None) -> T:
    """Return the value of a flag that must be given."""
    if value is None:
        raise SpecError(f"{flag} must be given", field=flag, hint=_HINTS.get(flag, ""))
    return value


# As in vLLM: small letters are powers of 1,000, capitals of 1,024.
_SIZES = {letter: 1000**power for power, letter in enumerate("kmgt", 1)}
_SIZES |= {letter.upper(): 1024**power for power, letter in enumerate("kmgt", 1)}


def size(flag: str, text: str | None) -> int | None:
    """Return a whole number that may end in a letter of size, as vLLM reads them: ``32k`` or ``32K``."""
    if text is None:
        return None
    scale = _SIZES.get(text[-1:], 1)
    try:
        number = float(text[:-1] if scale > 1 else text) * scale
        if number != int(number) or number < 0:
            raise ValueError
    except (ValueError, OverflowError):
        hint = "for example 32768, 32k (a thousand each) or 32K (1,024 each)"
        raise SpecError(f"{flag} must be a whole number: {text}", field=flag, value=text, hint=hint) from None
    return int(number)


_HINTS = {
    "--hw": "for example `--hw h100`; `roofline-fast catalog hardware` lists every device",
    "MODEL": "for example `llama-3.1-8b`; `roofline-fast catalog models` lists every model",
}


def one_model(argument: str | None, flag: str | None) -> str:
    """Return the model given as argument or as flag, but not as both."""
    if argument is not None and flag is not None:
        raise SpecError(f"MODEL must be given once: {argument} and --model {flag}", field="MODEL")
    return required("MODEL", argument if flag is None else flag)


def host(text: str | None) -> dict[str, float] | None:
    """Return the host's share of a step, seconds by name, from milliseconds ``H0``, ``H0,H1`` or ``H0,H1,LAUNCH``."""
    if text is None:
        return None
    parts = text.split(",")
    try:
        times = [float(part) / 1e3 for part in parts]
    except ValueError:
        times = []
    if len(times) not in (1, 2, 3):
        hint = "for example `--host 0.7` or `--host 0.7,0.01`"
        message = (
            f"--host must be milliseconds a step, a sequence of it, a kernel launched for prompts: {text}"
        )
        raise SpecError(message, field="--host", value=text, hint=hint)
    return dict(zip(("h0", "h1", "launch"), times, strict=False))


def predicted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `PREDICTED` as keywords."""
    return {**given, "host": host(given["host"])}


def deployed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `DEPLOYED` as keywords: ``ep`` is what expert parallelism comes to."""
    keywords = dict(given)
    spread = keywords.pop("enable_expert_parallel")
    return {**keywords, "ep": experts(given["ep"], spread, given["tp"], given["dp"])}


def experts(ep: int, enable_expert_parallel: bool, tp: int, dp: int) -> int:
    """Return over how many GPUs experts are spread: with vLLM's switch over all of a stage."""
    if not enable_expert_parallel:
        return ep
    if ep != 1:
        raise SpecError(
            f"--ep must be left out with --enable-expert-parallel: {ep}", field="--ep", value=str(ep)
        )
    return tp * dp


SERVED = "How steps or requests were served; what is recorded beside the file holds where nothing is said"
# How it was served, of which nothing was recorded.
SERVED_AS: dict[str, Any] = {
    "model": Annotated[
        str | None, typer.Option("--model", "-m", help="What was served.", rich_help_panel=SERVED)
    ],
    "tp": Annotated[int | None, typer.Option("--tp", help="GPUs of a layer.", rich_help_panel=SERVED)],
    "quantization": Annotated[
        str | None, typer.Option("--quantization", "-q", help="Weights.", rich_help_panel=SERVED)
    ],
    "kv_cache_dtype": Annotated[str | None, typer.Option(help="Its cache.", rich_help_panel=SERVED)],
    "max_num_seqs": Annotated[
        int | None, typer.Option(help="Sequences running at once.", rich_help_panel=SERVED)
    ],
    "max_num_batched_tokens": Annotated[
        int | None, typer.Option(help="Tokens of a step.", rich_help_panel=SERVED)
    ],
    "max_model_len": Annotated[int | None, typer.Option(help="Tokens of a request.", rich_help_panel=SERVED)],
    "num_gpu_blocks_override": Annotated[
        int | None, typer.Option(help="Blocks of the cache.", rich_help_panel=SERVED)
    ],
    "max_concurrency": Annotated[
        int | None, typer.Option(help="Requests in flight.", rich_help_panel=SERVED)
    ],
}


def served(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `SERVED_AS` that are given."""
    return {name: value for name, value in given.items() if value is not None}


def with_flags(argument: str, flags: Mapping[str, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the flags ``{word: annotation}``; they reach it as the mapping called `argument`.

    A flag that is not given is ``None``, or the default beside its annotation: ``{word: (annotation, 1)}``. The flags
    stand where the command has `argument`.
    """
    pairs = {word: flag if isinstance(flag, tuple) else (flag, None) for word, flag in flags.items()}

    def decorated(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True)
        only = inspect.Parameter.KEYWORD_ONLY
        parameters = []
        for name, parameter in own.parameters.items():
            if name != argument:
                parameters.append(parameter.replace(kind=only))
                continue
            parameters += [
                inspect.Parameter(word, only, default=default, annotation=annotation)
                for word, (annotation, default) in pairs.items()
            ]

        @functools.wraps(command)
        def called(**given: Any) -> int:
            together = {word: given.pop(word) for word in flags}
            return command(**{argument: together}, **given)

        signature = own.replace(parameters=parameters)
        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__annotations__ = {entry.name: entry.annotation for entry in parameters}
        return called

    return decorated
