"""Flags that load generators and servers have and `simulate` has not: what says the same here."""

from __future__ import annotations

NOTHING = "it changes nothing that is simulated: leave it out"
FILE = "the file is the argument: `roofline-fast simulate FILE --hw h100`"
WRITTEN = (
    "`-o FILE.parquet` writes a row a request, `-o FOLDER` everything, `--format json` prints the summary"
)
DEVICES = "`--tp N` shares every layer among N GPUs, `--dp N` runs N replicas"
CACHE_OFF = "`--no-enable-prefix-caching`"
LONG = "long names have two dashes: "

HINTS = {
    "-t": f"{LONG}`--tp 2`",
    "-p": f"{LONG}`--pp 2`",
    "-d": f"{LONG}`--dp 2`",
    "--dataset-name": "name a file as TRACE, or say what to generate: `--num-prompts 100 --input-len 1024`",
    **dict.fromkeys(["--dataset-path", "--dataset", "--trace", "--trace-file", "--input-file"], FILE),
    **dict.fromkeys(["--save-result", "--save-detailed", "--append-result"], WRITTEN),
    **dict.fromkeys(["--result-filename", "--result-dir", "--output-file", "--output-details"], WRITTEN),
    "--ignore-eos": "answers have the length that the trace or --output-len says: leave it out",
    "--percentile-metrics": "all latencies are told; `--percentiles 50,99` says where",
    "--speculative-config": "`--spec-method ngram --num-speculative-tokens 3 --spec-acceptance 0.7`",
    "--speculative-model": "`--spec-method draft_model --spec-model llama-3.2-1b --num-speculative-tokens 3 "
    "--spec-acceptance 0.7`",
    "--enable-lora": "`--loras 8` draws adapters for requests; `--with lora:…` prices them",
    **dict.fromkeys(["--disable-prefix-caching", "--no-prefix-caching", "--disable-radix-cache"], CACHE_OFF),
    **dict.fromkeys(["--gpus", "--num-gpus", "--n-gpus", "--replicas", "--num-replicas"], DEVICES),
    **dict.fromkeys(["--port", "--base-url", "--endpoint", "--api-key", "--tokenizer"], NOTHING),
    **dict.fromkeys(["--served-model-name", "--trust-remote-code", "--disable-log-requests"], NOTHING),
    **dict.fromkeys(["--disable-log-stats", "--disable-tqdm", "--load-format", "--download-dir"], NOTHING),
}
