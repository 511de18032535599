"""Which of ten GPUs serves Llama-3.1-70B best? Everything that nothing beats, in seconds and without a GPU.

Throughput per GPU pulls one way (large batches), speed for each user the other (small ones): what is worth buying lies
on the front between them. Run it as `python examples/pareto.py`, cell by cell in an editor that knows `# %%`.
"""

# %%
from __future__ import annotations

import time

import polars as pl
import roofline_fast as rf

SPACE = {
    "model": "llama-3.1-70b",
    "hw": [
        "a100-80gb-sxm",
        "b200-sxm",
        "gb200",
        "h100-sxm",
        "h200-sxm",
        "l40s",
        "mi300x",
        "mi325x",
        "mi355x",
        "rtx-pro-6000-server",
    ],
    "quantization": ["bf16", "fp8"],
    "tp": [1, 2, 4, 8],
    "batch_size": range(1, 513),
    "input_len": [1024, 4096, 16384],
}

# %%
began = time.perf_counter()
front = rf.sweep(SPACE, keep="pareto", objectives=["tokens_per_gpu_s", "tokens_per_user_s"]).collect()
seconds = time.perf_counter() - began
print(f"{front.height} configurations that nothing beats, of 122,880 in {seconds:.1f} s")

# %%
shown = front.sort("tokens_per_user_s").gather_every(max(1, front.height // 12))
columns = ["hw", "quantization", "tp", "batch_size", "tokens_per_gpu_s", "tokens_per_user_s", "usd_per_mtok"]
with pl.Config(tbl_rows=20, tbl_hide_dataframe_shape=True, float_precision=2):
    print(shown.select(columns))

# %%
# The cheapest way to give each user at least 30 tokens a second at 4,096 tokens of context.
cheapest = (
    rf.sweep(SPACE, limits={"min_tokens_per_user_s": 30})
    .filter(pl.col("input_len") == 4096, pl.col("usd_per_mtok").is_not_null())
    .select(columns)
    .sort("usd_per_mtok")
    .head(3)
    .collect()
)
print(cheapest)
