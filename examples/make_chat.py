"""Writes ``chat.jsonl``: ten minutes of synthetic chat traffic in the native trace format.

No request in it was ever made by anybody. Lengths follow the quantiles, and gaps between arrivals the
variation, of the conversation trace of Azure LLM inference of 2023-11-16 (Patel et al., "Splitwise", ISCA
2024; Azure/AzurePublicDataset, CC-BY-4.0): 19,366 requests, prompts of 1,155 and outputs of 211 tokens on
average, coefficient of variation of the gaps 1.09. That trace says nothing about shared prefixes. Here a
request whose prompt is long enough continues an earlier conversation, as the turns of a chat do, and every
conversation begins with one of three system prompts.

``python examples/make_chat.py`` writes the file again, byte for byte.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

SEED = 2023
REQUESTS = 400
DURATION_S = 600.0
GAP_VARIATION = 1.09

# Tokens at a share of all requests; in between, lengths are spread evenly in logarithm.
SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
PROMPT_TOKENS = (2, 181, 207, 396, 1020, 1189, 2735, 4083, 4142, 14050)
OUTPUT_TOKENS = (7, 41, 54, 85, 129, 395, 424, 451, 601, 1000)

BLOCK_SIZE = 64
SYSTEM_PROMPT_BLOCKS = (1, 2, 5)
SHORTEST_MESSAGE = 4
LONGEST_MESSAGE = 600
SHORTEST_PAUSE_S = 15.0


def arrivals(draw: random.Random) -> list[float]:
    """Return arrival times with Gamma-distributed gaps, scaled to fill the duration."""
    shape = 1.0 / GAP_VARIATION**2
    gaps = [draw.gammavariate(shape, 1.0 / shape) for _ in range(REQUESTS)]
    scale = DURATION_S / sum(gaps)
    times, now = [], 0.0
    for gap in gaps:
        times.append(round(now, 3))
        now += gap * scale
    return times


def lengths(tokens: tuple[int, ...], draw: random.Random) -> list[int]:
    """Return one length from each of ``REQUESTS`` equal shares of the distribution, shuffled."""
    drawn = [quantile((row + draw.random()) / REQUESTS, tokens) for row in range(REQUESTS)]
    draw.shuffle(drawn)
    return drawn


def quantile(share: float, tokens: tuple[int, ...]) -> int:
    """Return the length below which this share of requests lies."""
    for (left, low), (right, high) in pairwise(zip(SHARES, tokens, strict=True)):
        if share <= right:
            part = (share - left) / (right - left)
            return round(math.exp(math.log(low) + part * math.log(high / low)))
    return tokens[-1]


class Conversation:
    """The tokens two people at a keyboard and a model have exchanged so far, as ids of whole blocks."""

    def __init__(self, system_prompt: list[int]) -> None:
        self.blocks = list(system_prompt)
        self.context = 0
        self.idle_since = 0.0

    def turn(self, prompt: int, output: int, arrival: float, fresh: Iterator[int]) -> list[int]:
        """Return the block ids of a prompt that holds all before it; its last, partial block is its own."""
        whole, partial = divmod(prompt, BLOCK_SIZE)
        self._grow(whole, fresh)
        ids = self.blocks[:whole] + ([next(fresh)] if partial else [])
        self._grow((prompt + output) // BLOCK_SIZE, fresh)
        self.context = prompt + output
        self.idle_since = arrival
        return ids

    def _grow(self, blocks: int, fresh: Iterator[int]) -> None:
        self.blocks += [next(fresh) for _ in range(blocks - len(self.blocks))]


def rows() -> Iterator[dict[str, object]]:
    """Yield the header, then one request a row."""
    draw = random.Random(SEED)
    fresh = count(1)
    system_prompts = [[next(fresh) for _ in range(blocks)] for blocks in SYSTEM_PROMPT_BLOCKS]
    conversations: list[Conversation] = []
    times, prompts, outputs = arrivals(draw), lengths(PROMPT_TOKENS, draw), lengths(OUTPUT_TOKENS, draw)

    yield {"trace": "roofline-fast/1", "block_size": BLOCK_SIZE, "block_rule": "ceil", "hash_scope": "global"}
    for arrival, prompt, output in zip(times, prompts, outputs, strict=True):
        conversation = fitting(conversations, prompt, arrival)
        if conversation is None:
            conversation = Conversation(draw.choice(system_prompts))
            conversations.append(conversation)
        yield {
            "arrival_s": arrival,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "block_hashes": conversation.turn(prompt, output, arrival, fresh),
        }


def fitting(conversations: list[Conversation], prompt: int, arrival: float) -> Conversation | None:
    """Return the longest idle conversation that a message of plausible length turns into this prompt."""
    for conversation in sorted(conversations, key=lambda each: -each.context):
        message = prompt - conversation.context
        paused = arrival - conversation.idle_since
        if SHORTEST_MESSAGE <= message <= LONGEST_MESSAGE and paused >= SHORTEST_PAUSE_S:
            return conversation
    return None


def text() -> str:
    """Return the file."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows())


if __name__ == "__main__":
    Path(__file__).with_name("chat.jsonl").write_text(text(), encoding="utf-8", newline="\n")
