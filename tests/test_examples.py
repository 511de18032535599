"""The example trace: made by its generator, and like the traffic it is modelled on."""

from __future__ import annotations

import importlib.util
import json
import statistics
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_chat", EXAMPLES / "make_chat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def requests() -> list[dict[str, object]]:
    lines = (EXAMPLES / "chat.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["trace"] == "roofline-fast/1"
    return [json.loads(line) for line in lines[1:]]


def column(requests: list[dict[str, object]], key: str) -> list[float]:
    return [request[key] for request in requests]  # type: ignore[misc]


def test_the_generator_writes_the_example_byte_for_byte(generator: ModuleType) -> None:
    assert generator.text().encode() == (EXAMPLES / "chat.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("key", "mean", "p50", "p95"), [("prompt_tokens", 1155, 1020, 4083), ("output_tokens", 211, 129, 451)]
)
def test_lengths_are_like_those_of_real_chats(
    requests: list[dict[str, object]], key: str, mean: float, p50: float, p95: float
) -> None:
    lengths = sorted(column(requests, key))
    assert statistics.mean(lengths) == pytest.approx(mean, rel=0.1)
    assert lengths[len(lengths) // 2] == pytest.approx(p50, rel=0.05)
    assert lengths[len(lengths) * 95 // 100] == pytest.approx(p95, rel=0.05)


def test_arrivals_are_as_bursty_as_those_of_real_chats(requests: list[dict[str, object]]) -> None:
    gaps = [later - earlier for earlier, later in pairwise(column(requests, "arrival_s"))]
    assert min(gaps) >= 0
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(1.09, rel=0.1)


def test_conversations_share_prefixes(requests: list[dict[str, object]]) -> None:
    seen: set[tuple[int, ...]] = set()
    hits = blocks = 0
    for request in requests:
        path = tuple(request["block_hashes"])  # type: ignore[arg-type]
        assert len(path) == -(-request["prompt_tokens"] // 64)  # type: ignore[operator]
        prefixes = [path[: length + 1] for length in range(len(path))]
        hits += sum(prefix in seen for prefix in prefixes)
        blocks += len(path)
        seen.update(prefixes)
    assert 0.1 < hits / blocks < 0.6
