"""Every kind of technique, asked every way: a column, an axis, an analysis and a simulation charge the same."""

from __future__ import annotations

from typing import Any

import pytest
import roofline_fast as rf

MODEL, HW = "llama-3.1-8b", "h100-sxm"

# One example of each kind that does something; of those that bring several tokens a step, as many as they compute.
EACH = {
    "distill": "distill:student=llama-3.2-1b",
    "prune": "prune:ffn=0.5,layers=0.75",
    "attention": "attention:kind=window,window=512,sinks=4",
    "experts": "experts:alpha=0.8",
    "parallel": "parallel:tp=2",
    "spatial": "spatial:chips=2",
    "fusion": "fusion:level=none",
    "flash": "flash:attention=off",
    "overlap": "overlap:share=0.5",
    "lora": "lora:rank=16,adapters=8",
    "low-rank": "low-rank:keep=0.5",
    "sparsity": "sparsity:zeros=0.7",
    "n-m": "n-m:n=2,m=4",
    "weight-quant": "weight-quant:bits=4,group=128,scale=16,zero=4,dequant=serial",
    "activation-quant": "weight-quant:format=fp8+activation-quant:format=fp8",
    "kv-quant": "kv-quant:bits=4,group=64",
    "kv-evict": "kv-evict:budget=300/600",
    "paging": "paging:block=64",
    "prefix-sharing": "prefix-sharing:tokens=100",
    "context-parallel": "context-parallel:ranks=2",
    "contextual-sparsity": "contextual-sparsity:active=0.3,predictor=64",
    "early-exit": "early-exit:at=0.5/0.75,share=0.2/0.3",
    "spec": "spec:method=eagle,gamma=3,accept=1",
    "parallel-decoding": "parallel-decoding:width=4,tokens=4",
    "afd": "afd:attention=2,ffn=1",
    "pim": "pim:ops=all",
    "hybrid": "hybrid:processor=xeon-8592,ops=ffn,share=0.2",
    "offload": "offload:what=weights,share=0.2",
}

NEUTRAL = [
    "prune:ffn=1,heads=1,layers=1",
    "attention:kind=full",
    "parallel:tp=1,pp=1,dp=1,ep=1",
    "spatial:chips=1",
    "weight-quant:bits=16",
    "activation-quant:format=bf16",
    "kv-quant:bits=16",
    "fusion:level=full",
    "flash:attention=on",
    "overlap:share=0",
    "low-rank",
    "sparsity:format=dense",
    "n-m:n=4,m=4",
    "kv-evict:ratio=1",
    "prefix-sharing:tokens=0",
    "paging:block=1",
    "context-parallel:ranks=1",
    "contextual-sparsity:active=1",
    "early-exit:share=0",
    "early-exit:at=1,share=0.5",
    "lora:rank=0",
    "spec:gamma=0",
    "parallel-decoding:width=1",
    "offload:share=0",
    "hybrid:processor=xeon-8592,share=0",
    "distill:student=llama-3.1-8b",
]


def deployed(kind: str) -> dict[str, Any]:
    """Return the model and device of an example: experts need some, and so does what hides communication."""
    if kind == "experts":
        return {"model": "mixtral-8x7b", "hw": "h200", "tp": 2}
    return {"model": MODEL, "hw": HW, **({"tp": 2} if kind == "overlap" else {})}


def test_every_kind_has_an_example() -> None:
    assert sorted(EACH) == sorted(rf.catalog("techniques")["name"])


@pytest.mark.parametrize("mode", ["ideal", "predicted"])
@pytest.mark.parametrize("kind", EACH)
def test_a_column_an_axis_and_an_analysis_charge_the_same(kind: str, mode: str) -> None:
    how, text = {**deployed(kind), "mode": mode}, EACH[kind]
    sizes: dict[str, Any] = {"input_len": 1500, "output_len": 30}
    for phase in ("decode", "prefill", "chat"):
        columns = ["step_s", "kv_bytes", "fits"]
        rows = rf.evaluate(
            {"techniques": [text] * 2, "batch_size": [1, 7]}, **how, **sizes, phase=phase, columns=columns
        )
        space = {**how, **sizes, "phase": phase, "techniques": [text], "batch_size": [1, 7]}
        swept = rf.sweep(space, keep="all").collect().sort("batch_size")
        for place, batch in enumerate((1, 7)):
            asked = rf.analyze(**how, **sizes, phase=phase, batch_size=batch, techniques=text)
            assert rows["step_s"][place] == pytest.approx(asked.step_s, rel=1e-12), phase
            assert rows["kv_bytes"][place] == pytest.approx(asked.memory["kv_bytes"], rel=1e-12), phase
            assert rows["fits"][place] == asked.memory["fits"], phase
            assert swept["step_s"][place] == pytest.approx(asked.step_s, rel=1e-12), phase


@pytest.mark.parametrize("kind", EACH)
def test_a_simulated_request_pays_what_its_steps_cost(kind: str) -> None:
    how, text = deployed(kind), EACH[kind]
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[1000], output_tokens=[13])
    run = rf.simulate(trace, **how, engine="vllm-sync", techniques=text, mode="ideal", record="steps")
    prompts, decodes = 0, 0
    for step in run.steps.iter_rows(named=True):
        took = step["end_s"] - step["start_s"]
        before = step["context_tokens"] - step["scheduled_tokens"]
        if step["prefill_tokens"]:
            asked = rf.analyze(
                **how, phase="prefill", input_len=step["prefill_tokens"], techniques=text, mode="ideal"
            )
            prompts += 1
        elif kind in ("spec", "parallel-decoding") and step["scheduled_tokens"] != 4:
            # At the end there is less to draft than a step of `analyze` has.
            continue
        else:
            asked = rf.analyze(**how, input_len=before, techniques=text, mode="ideal")
            decodes += 1
        assert took == pytest.approx(asked.step_s, rel=1e-9), step
    assert prompts == 1
    # Twelve tokens follow the first: one a step, or four.
    assert decodes >= (2 if kind in ("spec", "parallel-decoding") else 12)


def test_more_adapters_than_lie_in_memory_are_told_of_where_as_many_sequences_may_run() -> None:
    def told(seqs: int) -> list[str]:
        run = rf.simulate(
            model="llama-3.1-8b",
            hw="h100-sxm",
            num_prompts=4,
            request_rate=8,
            max_num_seqs=seqs,
            techniques="lora:rank=8,adapters=64,resident=4",
        )
        return [note for note in run.notes if note.startswith("lora:resident")]

    # 64·(1 − (63/64)^8) = 7.57, of 4 sequences 3.9
    (note,) = told(8)
    assert note == (
        "lora:resident must be at least the 7.6 adapters that 8 sequences draw at once: 4; "
        "fetching others is left out where so many run"
    )
    assert told(4) == []


@pytest.mark.parametrize("text", NEUTRAL)
def test_a_neutral_setting_changes_no_simulation(text: str) -> None:
    traffic: dict[str, Any] = {"num_prompts": 12, "input_len": 300, "output_len": 20, "request_rate": 50}
    # Blocks of one token are what they are without paging, if the engine's own are of one token as well.
    block: dict[str, Any] = {"block_size": 1} if text.startswith("paging") else {}
    plain = rf.simulate(model=MODEL, hw=HW, **block, **traffic)
    neutral = rf.simulate(model=MODEL, hw=HW, techniques=text, **traffic)
    assert neutral.summary == plain.summary
    assert neutral.settings == plain.settings
