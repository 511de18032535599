"""``roofline-fast simulate`` on every recorded trace: served, or refused with what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import SHARED, shared

TRACES = SHARED / "traces"
# Folders and files that hold no requests: samples that are broken on purpose, descriptions, archives.
OTHERS = ("messy/", "workload_catalog/", "servegen/", "derived/servegen_rate", "README.md", "MANIFEST.json")
# Samples that hold text without its length in tokens.
TEXTS = ("aiperf_", "openai_batch", "sharegpt.json", "vllm_custom", "blis_tracev2.yaml", "servegen_chunk")
# Lengths without arrivals: users of a closed loop send them, or a rate is said.
LENGTHS = ("vidur_lengths", "applied_compute", "arxiv_summarization", "session_workload_example")
# Spans that were recorded without what was answered.
SPANS = ("fan_in_dependencies", "parallel_requests", "simple_chain")


def named(names: tuple[str, ...], file: str) -> bool:
    return any(name in file for name in names)


def files() -> list[str]:
    found = (path.relative_to(TRACES).as_posix() for path in sorted(TRACES.rglob("*")) if path.is_file())
    return [file for file in found if not named(OTHERS, file)]


def simulated(command: Callable[..., Any], file: str, *more: str) -> Any:
    limits = ["--limit", "50", "-m", "llama-3.1-8b", "--hw", "h100-sxm", "--quiet", "--format", "csv"]
    return command(["simulate", str(TRACES / file), *limits, *more])


def test_the_collection_of_traces_is_found() -> None:
    shared("traces")
    assert len(files()) > 60


@pytest.mark.parametrize("file", files())
def test_every_trace_is_simulated_or_says_what_it_lacks(file: str, command: Callable[..., Any]) -> None:
    done = simulated(command, file)
    if named(TEXTS, file):
        assert (done.code, done.out) == (2, "")
        assert "the file must hold the lengths of requests" in done.err
    elif named(SPANS, file):
        assert (done.code, done.out) == (2, "")
        assert "the file must have output lengths" in done.err
    elif named(LENGTHS, file):
        assert (done.code, done.out) == (2, "")
        assert "the file must have arrival times" in done.err
        assert "`--request-rate 4` (with `--arrivals`), or `--concurrency 8`" in done.err
        for load in (("--request-rate", "4"), ("--concurrency", "8")):
            assert simulated(command, file, *load).code == 0
    else:
        assert (done.code, done.err) == (0, "")
        assert len(done.out.splitlines()) == 2


def test_what_holds_no_requests_is_refused_by_name(command: Callable[..., Any]) -> None:
    shared("traces")
    others = [path for path in TRACES.rglob("*") if path.is_file() and "messy" not in path.parts]
    others = [path for path in others if named(OTHERS, path.relative_to(TRACES).as_posix())]
    assert len(others) > 10
    for path in others:
        done = command(["simulate", str(path), "--hw", "h100-sxm"])
        assert (done.code, done.out) == (2, ""), path
        assert done.err.startswith(f"error: {path}"), path


def test_rates_of_a_published_service_drive_generated_traffic(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    rates = shared("traces", "derived", "servegen_rate_language_m-small.csv")
    done = command(
        f"trace generate --num-prompts 5000 --arrivals constant --rate-series {rates} -o {tmp_path}/x.csv"
    )
    assert done.code == 0
    assert "6.17 s, 810 req/s" in done.err
