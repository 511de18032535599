"""Flags that set an engine, under the names vLLM uses where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from roofline_fast.cli.flags import (
    ENGINE,
    BlockSize,
    EnforceEager,
    GpuMemoryUtilization,
    MaxNumBatchedTokens,
    MaxNumSeqs,
    size,
)

# What a serving engine is set to; what is not given is its own choice.
SETTINGS: dict[str, Any] = {
    "max_num_seqs": MaxNumSeqs,
    "max_num_batched_tokens": MaxNumBatchedTokens,
    "max_model_len": Annotated[
        str | None,
        typer.Option(help="Tokens of prompt and answer: 32768, 32K.", rich_help_panel=ENGINE),
    ],
    "block_size": BlockSize,
    "gpu_memory_utilization": GpuMemoryUtilization,
    "enforce_eager": EnforceEager,
    "num_gpu_blocks_override": Annotated[
        int | None,
        typer.Option(
            "--num-gpu-blocks-override",
            "--num-gpu-blocks",
            help="KV blocks, instead of what memory gives.",
            rich_help_panel=ENGINE,
        ),
    ],
    "enable_chunked_prefill": Annotated[
        bool | None,
        typer.Option(
            "--enable-chunked-prefill/--no-enable-chunked-prefill",
            help="Prompts in several steps.",
            rich_help_panel=ENGINE,
        ),
    ],
    "enable_prefix_caching": Annotated[
        bool | None,
        typer.Option(
            "--enable-prefix-caching/--no-enable-prefix-caching",
            help="Find prefixes again.",
            rich_help_panel=ENGINE,
        ),
    ],
    "async_scheduling": Annotated[
        bool | None,
        typer.Option(
            "--async-scheduling/--no-async-scheduling",
            help="Schedule a step while the one before it runs.",
            rich_help_panel=ENGINE,
        ),
    ],
    "scheduling_policy": Annotated[
        str | None,
        typer.Option(
            "--scheduling-policy",
            "--schedule-policy",
            help="fcfs; priority (vllm), lpm (sglang).",
            rich_help_panel=ENGINE,
        ),
    ],
    "watermark": Annotated[
        float | None, typer.Option(help="Share of KV blocks left free.", rich_help_panel=ENGINE)
    ],
    "long_prefill_token_threshold": Annotated[
        int | None, typer.Option(help="Tokens of one prompt a step.", rich_help_panel=ENGINE)
    ],
    "long_prefill_token_threshold_adaptive": Annotated[
        bool | None,
        typer.Option(
            "--long-prefill-token-threshold-adaptive/--no-long-prefill-token-threshold-adaptive",
            help="At least an equal share.",
            rich_help_panel=ENGINE,
        ),
    ],
    "scheduler_reserve_full_isl": Annotated[
        bool | None,
        typer.Option(
            "--scheduler-reserve-full-isl/--no-scheduler-reserve-full-isl",
            help="Admit only whole prompts.",
            rich_help_panel=ENGINE,
        ),
    ],
    "prefill_schedule_interval": Annotated[
        int | None, typer.Option(help="Prompts only every so many steps.", rich_help_panel=ENGINE)
    ],
    "max_num_active_seqs": Annotated[
        int | None, typer.Option(help="Running at once, if fewer.", rich_help_panel=ENGINE)
    ],
    "max_prefill_tokens": Annotated[
        int | None, typer.Option(help="Prompt tokens of a step (sglang).", rich_help_panel=ENGINE)
    ],
    "schedule_conservativeness": Annotated[
        float | None,
        typer.Option(help="Room kept for answers to come (sglang).", rich_help_panel=ENGINE),
    ],
    "enable_mixed_chunk": Annotated[
        bool | None,
        typer.Option(
            "--enable-mixed-chunk/--no-enable-mixed-chunk",
            help="Answers beside chunks (sglang).",
            rich_help_panel=ENGINE,
        ),
    ],
    "capacity_scheduler_policy": Annotated[
        str | None,
        typer.Option(help="guaranteed-no-evict, max-utilization (trtllm).", rich_help_panel=ENGINE),
    ],
    "preemption_mode": Annotated[
        str | None, typer.Option(help="recompute, swap (vllm-v0).", rich_help_panel=ENGINE)
    ],
    "swap_space": Annotated[
        float | None,
        typer.Option(help="GiB of the host a GPU swaps to (vllm-v0).", rich_help_panel=ENGINE),
    ],
    "swa_full_tokens_ratio": Annotated[
        float | None,
        typer.Option(help="Tokens of windowed layers to others' (sglang).", rich_help_panel=ENGINE),
    ],
    "mamba_full_memory_ratio": Annotated[
        float | None,
        typer.Option(help="Memory of states to the KV cache's (sglang).", rich_help_panel=ENGINE),
    ],
    "usage_context": Annotated[
        str | None,
        typer.Option(help="api-server or llm: whose defaults (vllm).", rich_help_panel=ENGINE),
    ],
    "performance_mode": Annotated[
        str | None,
        typer.Option(help="balanced, interactivity, throughput (vllm).", rich_help_panel=ENGINE),
    ],
    "kv_cache_memory_bytes": Annotated[
        str | None,
        typer.Option(
            help="KV cache of a GPU instead of a share: 40e9, 40G.",
            rich_help_panel=ENGINE,
            metavar="BYTES",
        ),
    ],
    "max_num_scheduled_tokens": Annotated[
        int | None,
        typer.Option(help="Tokens scheduled a step, if fewer (vllm).", rich_help_panel=ENGINE),
    ],
    "max_num_queued_reqs": Annotated[
        int | None, typer.Option(help="Requests that may wait (vllm).", rich_help_panel=ENGINE)
    ],
    "stream_interval": Annotated[
        int | None, typer.Option(help="Tokens sent together (vllm, sglang).", rich_help_panel=ENGINE)
    ],
}


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `SETTINGS` as keywords: sizes may end in a letter."""
    sizes = {name: "--" + name.replace("_", "-") for name in ("max_model_len", "kv_cache_memory_bytes")}
    return {**given, **{name: size(flag, given[name]) for name, flag in sizes.items()}}
