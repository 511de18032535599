"""Techniques as Python and the command line see them: one grammar and one cost everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st
from roofline_fast import technique_files

MODEL, HW = "llama-3.1-8b", "h100-sxm"
BOTH = ["weight-quant:bits=4", "kv-quant:bits=4"]
SETS = [
    "none",
    "weight-quant:bits=4 + kv-quant:bits=4",
    "spec:method=eagle,gamma=3,accept=0.7",
    "kv-evict:budget=512",
    "contextual-sparsity:active=0.3",
    "early-exit:at=0.5,share=0.4",
    "offload:what=weights,share=0.2",
    "afd:attention=2,ffn=1",
    "pim:ops=all,memory=added,stacks=8",
    "lora:rank=16,adapters=8",
    "hybrid:processor=xeon-8592,ops=ffn,share=0.2",
    "context-parallel:ranks=2 + flash:attention=off",
    "weight-quant:bits=4,parts=ffn + weight-quant:bits=8,parts=attention",
]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(SETS),
    st.integers(1, 100),
    st.integers(600, 4000),
    st.sampled_from(["ideal", "predicted"]),
)
def test_analyze_and_evaluate_charge_the_same(techniques: str, batch: int, length: int, mode: str) -> None:
    rows = {"techniques": [techniques], "batch_size": [batch], "input_len": [length]}
    columns = ["step_s", "tpot_s", "kv_bytes", "fits", "energy_j_per_token"]
    priced = rf.evaluate(rows, model=MODEL, hw=HW, mode=mode, columns=columns)
    asked = rf.analyze(MODEL, HW, batch_size=batch, input_len=length, techniques=techniques, mode=mode)
    assert priced["step_s"].item() == pytest.approx(asked.step_s, rel=1e-12)
    assert priced["tpot_s"].item() == pytest.approx(asked.tpot_s, rel=1e-12)
    assert priced["kv_bytes"].item() == pytest.approx(asked.memory["kv_bytes"], rel=1e-12)
    assert priced["fits"].item() == asked.memory["fits"]
    assert priced["energy_j_per_token"].item() == pytest.approx(asked.energy_j / asked.tokens, rel=1e-12)


@pytest.mark.parametrize("techniques", [text for text in SETS if not text.startswith("spec")])
def test_a_simulated_step_costs_what_analyze_says(techniques: str) -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[1000], output_tokens=[4])
    run = rf.simulate(
        trace, model=MODEL, hw=HW, engine="vllm-sync", techniques=techniques, mode="ideal", record="steps"
    )
    decodes = run.steps.filter(run.steps["prefill_tokens"] == 0)
    assert decodes.height == 3
    took = (decodes["end_s"] - decodes["start_s"]).to_list()
    for place, seconds in enumerate(took):
        asked = rf.analyze(MODEL, HW, input_len=1000 + place, techniques=techniques, mode="ideal")
        assert seconds == pytest.approx(asked.step_s, rel=1e-9)


@pytest.mark.parametrize("techniques", ["kv-evict:window=600", "attention:kind=sparse,top-k=512"])
def test_what_ifs_of_latent_attention_cost_the_same_everywhere(techniques: str) -> None:
    how: dict[str, Any] = {"model": "deepseek-v2-lite", "hw": HW, "techniques": techniques, "mode": "ideal"}
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[1000], output_tokens=[4])
    run = rf.simulate(trace, **how, engine="vllm-sync", record="steps")
    rows = {"input_len": [1000, 1001, 1002]}
    priced = rf.evaluate(rows, model=how["model"], hw=HW, techniques=techniques, mode="ideal")
    for place, step in enumerate(run.steps.filter(pl.col("prefill_tokens") == 0).iter_rows(named=True)):
        asked = rf.analyze(**how, input_len=1000 + place)
        assert step["end_s"] - step["start_s"] == pytest.approx(asked.step_s, rel=1e-9)
        assert priced["step_s"][place] == pytest.approx(asked.step_s, rel=1e-12)
        assert priced["kv_bytes"][place] == pytest.approx(asked.memory["kv_bytes"], rel=1e-12)
    plain = rf.analyze(how["model"], HW, input_len=1000)
    blocks = rf.analyze(**how, input_len=1000).memory["engine_sequences"] / plain.memory["engine_sequences"]
    # Blocks of a window of 600 in the place of a thousand tokens; an index lies beside what is chosen from.
    assert (1.5 < blocks < 1.7) if "window" in techniques else (0.5 < blocks < 1)


MIXED = ["none", "early-exit:at=0.5,share=0.4", "contextual-sparsity:active=0.3", "kv-evict:ratio=0.5", "pim"]


@pytest.mark.parametrize("mode", ["ideal", "predicted"])
@pytest.mark.parametrize("techniques", MIXED)
def test_a_simulated_step_with_a_prompt_costs_what_analyze_says(techniques: str, mode: str) -> None:
    trace = rf.Trace(arrival_s=[0.0, 0.06], prompt_tokens=[1000, 700], output_tokens=[40, 2])
    run = rf.simulate(
        trace, model=MODEL, hw=HW, engine="vllm-sync", techniques=techniques, mode=mode, record="steps"
    )
    steps = run.steps
    (mixed,) = steps.filter((steps["prefill_tokens"] == 700) & (steps["scheduled_tokens"] == 701)).to_dicts()
    before = mixed["context_tokens"] - mixed["scheduled_tokens"]
    asked = rf.analyze(
        MODEL, HW, phase="mixed", input_len=before, chunk=700, techniques=techniques, mode=mode
    )
    assert mixed["end_s"] - mixed["start_s"] == pytest.approx(asked.step_s, rel=1e-9)


def test_flags_that_draft_cost_what_the_technique_costs() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[500], output_tokens=[100])
    flags = {"spec_method": "eagle", "num_speculative_tokens": 3, "spec_acceptance": 0.7}
    runs = [
        rf.simulate(trace, model=MODEL, hw=HW, **how)
        for how in (flags, {"techniques": "spec:method=eagle,gamma=3,accept=0.7"})
    ]
    assert runs[0].summary == runs[1].summary
    assert runs[0].settings == runs[1].settings


def test_a_shared_prefix_is_found_and_read_once() -> None:
    traffic = {"num_prompts": 30, "input_len": 2000, "output_len": 50, "request_rate": "inf"}
    plain, stored, read = (
        rf.simulate(model=MODEL, hw=HW, mode="ideal", techniques=techniques, **traffic)
        for techniques in (
            None,
            "prefix-sharing:tokens=1600,cascade=no",
            "prefix-sharing:tokens=1600",
        )
    )
    assert stored.summary["prefix_hit_rate"] > 0.7
    assert stored.summary["kv_peak"] < plain.summary["kv_peak"] / 2
    assert read.summary["kv_peak"] == stored.summary["kv_peak"]
    assert read.summary["mean_tpot_ms"] < stored.summary["mean_tpot_ms"]


def test_reserving_the_longest_context_runs_fewer_sequences() -> None:
    traffic = {"num_prompts": 200, "input_len": 500, "output_len": 100, "request_rate": "inf"}
    paged, contiguous = (
        rf.simulate(model=MODEL, hw=HW, techniques=techniques, **traffic)
        for techniques in ("paging:block=16", "paging:contiguous=16384")
    )
    assert contiguous.summary["max_running"] < paged.summary["max_running"] / 4
    assert contiguous.summary["completed"] == 200


def test_the_order_of_techniques_does_not_count() -> None:
    one = rf.analyze(MODEL, HW, techniques=BOTH)
    other = rf.analyze(MODEL, HW, techniques=" + ".join(reversed(BOTH)))
    assert one.step_s == other.step_s
    assert one.inputs["techniques"] == other.inputs["techniques"] == BOTH


def test_a_flag_is_shown_as_the_technique_it_stands_for() -> None:
    asked = rf.analyze(MODEL, HW, quantization="w4a16", kv_cache_dtype="fp8")
    assert asked.inputs["techniques"] == [
        "weight-quant:bits=4,group=128,scale=16,zero=4",
        "kv-quant:format=fp8",
    ]


def test_a_smaller_cache_leaves_room_for_more_blocks() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[100], output_tokens=[4])
    blocks = [
        rf.simulate(trace, model=MODEL, hw=HW, techniques=techniques).settings["num_gpu_blocks"]
        for techniques in (None, "kv-quant:bits=4", "weight-quant:bits=4")
    ]
    assert blocks[1] == pytest.approx(4 * blocks[0], rel=1e-3)
    assert blocks[2] > blocks[0]


def test_drafts_bring_tokens_and_cost_time_in_simulation() -> None:
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[500], output_tokens=[200])

    def tpot(techniques: str | None) -> float:
        run = rf.simulate(trace, model=MODEL, hw=HW, techniques=techniques, mode="ideal", engine="vllm-sync")
        return float(run.summary["mean_tpot_ms"])

    plain = tpot(None)
    free = tpot("spec:method=ngram,gamma=3,accept=1")
    drafted = tpot("spec:method=eagle,gamma=3,accept=1")
    assert plain / free == pytest.approx(4, rel=0.06)
    assert free < drafted < plain
    settings = rf.simulate(
        trace, model=MODEL, hw=HW, techniques="spec:method=eagle,gamma=3,accept=1"
    ).settings
    assert (settings["spec_method"], settings["num_speculative_tokens"]) == ("eagle", 3)


def test_speculation_that_loses_is_told_plainly() -> None:
    asked = rf.analyze(
        "mixtral-8x7b", "h200", techniques="spec:method=eagle,gamma=4,accept=0.3", batch_size=2, mode="ideal"
    )
    assert any("slower" in note and "acceptance" in note for note in asked.notes), asked.notes


def test_a_waterfall_adds_up() -> None:
    found = rf.compare(None, {"techniques": BOTH}, model="llama-2-13b", hw="a6000", batch_size=8)
    for table in (found.waterfall, found.by_op, found.by_resource):
        assert table["delta_s"].sum() == pytest.approx(found.delta_s, rel=1e-9)
    assert found.waterfall.columns == ["op", "resource", "a_s", "b_s", "delta_s", "share"]
    assert found.b_s == rf.analyze("llama-2-13b", "a6000", batch_size=8, techniques=BOTH).tpot_s


def test_break_even_answers_are_those_of_the_formulas() -> None:
    answers = rf.break_even("llama-2-13b", "a6000", techniques="weight-quant:bits=4")
    found = dict(answers.select("name", "value").iter_rows())
    assert found["compute_bound_from"] == pytest.approx(154.8e12 * 4 / 16 / 768e9, rel=1e-9)
    assert (found["kv_outweighs_layers_beyond"] or 0) > 7000
    plain = rf.break_even("llama-2-13b", "a100-80gb-sxm")
    assert dict(plain.select("name", "value").iter_rows())["kv_read_outweighs_beyond"] == 31_377


def test_a_map_of_bounds_has_a_row_a_pair() -> None:
    found = rf.bound_map(MODEL, HW, batch_size=[1, 8], context=[100, 1000, 10_000])
    assert found.height == 6
    assert set(found.columns) == {"batch_size", "context", "bound", "step_s", "kv_share"}
    assert found["kv_share"].is_between(0, 1).all()


MISTAKES = {
    "analyze llama-3.1-8b --hw h100 --with weight-quand:bits=4": (
        "no technique is called `weight-quand`",
        "weight-quant",
    ),
    "analyze llama-3.1-8b --hw h100 --with kv-quant:bit=4": ("must be given settings it has: bit", "bits"),
    "analyze llama-3.1-8b --hw h100 --with weight-quant:bits=0": (
        "weight-quant:bits must be a number from 1 to 8, or 16",
        "",
    ),
    "analyze llama-3.1-8b --hw h100 --with n-m:n=5,m=4": ("n-m:n must be at most m = 4: 5", ""),
    "analyze llama-3.1-8b --hw h100 -q fp8 --with weight-quant:bits=4": (
        "quantization must not be given beside `weight-quant:bits=4`, which says the same thing: fp8",
        "one of them",
    ),
    "analyze llama-3.1-8b --hw h100 --kv-cache-dtype fp8 --with kv-quant:bits=4": (
        "kv_cache_dtype must not be given beside `kv-quant:bits=4`",
        "one of them",
    ),
    "analyze llama-3.1-8b --hw h100 --with kv-evict:ratio=0.5 --with prefix-sharing:tokens=10": (
        "a prefix cannot be stored once",
        "one of them",
    ),
    "analyze llama-2-7b --hw a6000 --compat llm-viewer --with kv-quant:bits=4": (
        "techniques must be left out",
        "",
    ),
    "simulate examples/chat.jsonl --hw h100 --with prefix-sharing:tokens=10": (
        "prefix-sharing:tokens must be at most the shortest prompt's 2 tokens: 10",
        "every prompt begins with the prefix",
    ),
    "simulate examples/chat.jsonl --hw h100 --with prefix-sharing:tokens=2,groups=3": (
        "how many of several prefixes the sequences of a step have differs from step to step",
        "analyze",
    ),
    "simulate examples/chat.jsonl --hw h100 --with paging:block=64 --block-size 16": (
        "block_size must not be given beside `paging`, which has blocks of 64 tokens: 16",
        "one of them",
    ),
    "analyze llama-3.1-8b --hw groq-lpu --with spatial:chips=64": (
        "spatial:gb-s must be given: no link between chips of `groq-lpu` is known",
        "gb-s=100",
    ),
    "simulate examples/chat.jsonl --hw h100 --spec-method eagle --num-speculative-tokens 2 --spec-acceptance 0.5 "
    "--with spec:gamma=2,accept=0.5": (
        "spec_method must not be given beside `spec:gamma=2,accept=0.5`",
        "one of them",
    ),
    "catalog techniques wieght-quant": ("no technique is called `wieght-quant`", "weight-quant"),
    "compare base -m llama-3.1-8b --hw h100": ("B must be given", ""),
    'compare base "with kv-quant" -m llama-3.1-8b --hw h100': (
        "a side must read `key=value key=value`: `with`",
        "base",
    ),
    'compare base "tp=two" -m llama-3.1-8b --hw h100': ("tp must be a whole number: two", ""),
    'compare base "tpp=2" -m llama-3.1-8b --hw h100': (
        "compare must be given keywords of analyze: tpp",
        "tp",
    ),
    "compare base tp=2 --hw h100": ("model must be given for both sides", ""),
    'compare base "phase=prefill" -m llama-3.1-8b --hw h100': (
        "both sides must be asked about the same phase",
        "",
    ),
    "compare base tp=2 -m llama-3.1-8b --hw h100 --top 0": ("top must be at least 1: 0", ""),
    "break-even llama-3.1-8b": ("--hw must be given", "h100"),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_with_a_hint(command: Callable, line: str) -> None:
    done = command(line)
    message, hint = MISTAKES[line]
    assert done.code == 2, done.err
    assert done.out == ""
    assert message in done.err
    assert hint in done.err


def test_python_refuses_what_is_no_technique() -> None:
    with pytest.raises(rf.SpecError, match="techniques must be texts"):
        rf.analyze(MODEL, HW, techniques=[4])  # type: ignore[list-item]
    with pytest.raises(rf.SpecError, match="break_even must be given keywords it has: cp"):
        rf.break_even(MODEL, HW, cp=2)


def test_the_commands_print_json(command: Callable) -> None:
    found = json.loads(
        command('compare base "with=kv-quant:bits=4" -m llama-3.1-8b --hw h100 --format json').out
    )
    assert found["delta_s"] == pytest.approx(sum(row["delta_s"] for row in found["waterfall"]))
    answers = json.loads(command("break-even llama-3.1-8b --hw h100 --format json").out)
    assert {row["name"] for row in answers} >= {"compute_bound_from", "kv_read_outweighs_beyond"}
    listed = json.loads(command("catalog techniques --format json").out)
    assert len(listed) == 28


def test_a_simulated_verification_costs_what_analyze_says() -> None:
    techniques = "spec:method=eagle,gamma=3,accept=1"
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[1000], output_tokens=[41])
    run = rf.simulate(
        trace, model=MODEL, hw=HW, engine="vllm-sync", techniques=techniques, mode="ideal", record="steps"
    )
    verified = run.steps.filter((run.steps["prefill_tokens"] == 0) & (run.steps["scheduled_tokens"] == 4))
    assert verified.height >= 8
    for row in verified.iter_rows(named=True):
        before = row["context_tokens"] - row["scheduled_tokens"]
        asked = rf.analyze(MODEL, HW, input_len=before, techniques=techniques, mode="ideal")
        assert row["end_s"] - row["start_s"] == pytest.approx(asked.step_s, rel=1e-9)


def test_what_was_measured_may_stand_in_a_file(tmp_path: Path) -> None:
    written = {
        "rates.csv": "position,acceptance\n2,0.5\n1,0.8\n",
        "plain.csv": "0.8\n0.5\n",
        "counts.csv": "position,drafts,accepted\n0,1000,800\n1,1000,400\n",
        "list.json": "[0.8, 0.5]",
        "columns.json": '{"position": [1, 2], "acceptance": [0.8, 0.5]}',
        "rows.jsonl": '{"acceptance": 0.8}\n\n{"acceptance": 0.5}\n',
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    pl.DataFrame({"position": [0, 1], "acceptance": [0.8, 0.5]}).write_parquet(tmp_path / "rates.parquet")
    inline = "spec:method=eagle,gamma=2,accept=0.8/0.5"
    asked = rf.analyze(MODEL, HW, techniques=inline)
    for name in [*written, "rates.parquet"]:
        text = f"spec:method=eagle,gamma=2,accept=@{tmp_path / name}"
        read = rf.analyze(MODEL, HW, techniques=text)
        assert (read.inputs["techniques"], read.tpot_s) == ([inline], asked.tpot_s), name
        assert rf.evaluate({"techniques": [text]}, model=MODEL, hw=HW)["tpot_s"].item() == asked.tpot_s
    (tmp_path / "run.csv").write_text("accepted\n2\n0\n2\n1\n")
    (tmp_path / "histogram.csv").write_text("accepted,count\n0,1\n1,1\n2,2\n")
    for name in ("run.csv", "histogram.csv"):
        read = rf.analyze(MODEL, HW, techniques=f"spec:gamma=2,recorded=@{tmp_path / name}")
        # 1 + (2 + 0 + 2 + 1)/4 tokens a step
        assert read.step_s / read.tpot_s == pytest.approx(2.25)
        assert read.inputs["techniques"] == ["spec:gamma=2,recorded=0x1/1x1/2x2"]
    traffic: dict[str, Any] = {"num_prompts": 5, "input_len": 100, "output_len": 20}
    flags: dict[str, Any] = {"spec_method": "ngram", "num_speculative_tokens": 2}
    by_file, by_list = (
        rf.simulate(model=MODEL, hw=HW, spec_acceptance=chances, **flags, **traffic)
        for chances in (f"@{tmp_path / 'rates.csv'}", [0.8, 0.5])
    )
    assert by_file.summary == by_list.summary


def test_a_routing_trace_may_stand_in_a_file(tmp_path: Path) -> None:
    loads = [4, 2, 2, 2, 2, 2, 1, 1]
    (tmp_path / "loads.csv").write_text("expert,load\n" + "".join(f"{e},{n}\n" for e, n in enumerate(loads)))
    tokens = [[expert] for expert, count in enumerate(loads) for _ in range(count)]
    (tmp_path / "tokens.jsonl").write_text("".join(json.dumps({"experts": row}) + "\n" for row in tokens))
    # Two layers, unlike in which expert is busiest, alike in how busy it is.
    turned = [(layer, e, n) for layer in (0, 1) for e, n in enumerate(loads if layer else reversed(loads))]
    pl.DataFrame(turned, schema=["layer", "expert", "tokens"], orient="row").write_parquet(
        tmp_path / "two.parquet"
    )
    inline = "experts:loads=" + "/".join(map(str, loads))
    asked = rf.analyze("mixtral-8x7b", HW, tp=2, batch_size=4, techniques=inline)
    for name in ("loads.csv", "tokens.jsonl", "two.parquet"):
        read = rf.analyze(
            "mixtral-8x7b", HW, tp=2, batch_size=4, techniques=f"experts:loads=@{tmp_path / name}"
        )
        assert read.step_s == pytest.approx(asked.step_s, rel=1e-6), name
    assert technique_files.short("experts:loads=" + "/".join("1" * 64)) == "experts:loads=1/1/1/… (64)"


BAD_FILES = [
    ("accept", "no.csv", None, "spec:accept must be a file that exists: @"),
    (
        "accept",
        "no.txt",
        "0.5",
        "must be a file that ends in one of .csv, .json, .jsonl, .ndjson, .parquet: no.txt",
    ),
    ("accept", "no.csv", "", "no.csv: spec:accept must hold numbers: no rows"),
    ("accept", "no.csv", "acceptance\n", "no.csv: spec:accept must hold numbers: no rows"),
    (
        "accept",
        "no.csv",
        "acceptance\n0.5\n1.5\n",
        "no.csv:3: spec:accept must be numbers from 0 to 1 in column acceptance: 1.5",
    ),
    (
        "accept",
        "no.csv",
        "acceptance\n0.5\nhalf\n",
        "no.csv:3: spec:accept must be numbers from 0 to 1 in column acceptance: half",
    ),
    (
        "accept",
        "no.csv",
        "draft\n0.5\n",
        "no.csv:2: spec:accept must have a column acceptance or accept or rate or chance: none",
    ),
    (
        "accept",
        "no.csv",
        "position,acceptance\n1,0.5\n1,0.4\n",
        "must have each position once, from 0 or 1 up: 1",
    ),
    ("accept", "no.csv", "position,acceptance\n1\n", "no.csv:2: spec:accept must have 2 cells a row: 1"),
    (
        "accept",
        "no.csv",
        "drafts,accepted\n10,8\n10,9\n",
        "no.csv:3: spec:accept must have accepted at most the 8 that got there: 9",
    ),
    ("accept", "no.json", "[0.5,", "no.json:1: spec:accept must be JSON: "),
    ("accept", "no.json", '{"a": 1}', "must be a list, or lists of equal length by name: dict"),
    ("accept", "no.jsonl", "0.5\n{\n", "no.jsonl:2: spec:accept must be JSON on each line: "),
    ("accept", "no.parquet", "0.5", "spec:accept must be a Parquet file: "),
    (
        "recorded",
        "no.csv",
        "accepted\n1.5\n",
        "no.csv:2: spec:recorded must be whole numbers from 0 to 4096 in column accepted: 1.5",
    ),
    (
        "loads",
        "no.csv",
        "load\n-1\n",
        "no.csv:2: experts:loads must be numbers of at least 0 in column load: -1",
    ),
    (
        "loads",
        "no.jsonl",
        '{"experts": [1, "a"]}',
        "no.jsonl:1: experts:loads must be whole numbers in column experts: a",
    ),
    ("gamma", "no.csv", "3", "gamma must be given in the text: @"),
]


@pytest.mark.parametrize(("key", "name", "text", "message"), BAD_FILES)
def test_a_bad_file_names_its_line(
    tmp_path: Path, key: str, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    kind = "experts" if key == "loads" else "spec:gamma=2"
    written = f"{kind}{':' if kind == 'experts' else ','}{key}=@{tmp_path / name}"
    with pytest.raises(rf.SpecError) as wrong:
        rf.analyze(MODEL, HW, techniques=written)
    assert message in str(wrong.value)
    assert isinstance(wrong.value, FileNotFoundError) == (text is None)


@pytest.mark.parametrize("nothing", ["", "  ", "kv-quant:bits=4 + ", [""]])
def test_a_technique_that_says_nothing_is_refused(nothing: str | list[str]) -> None:
    with pytest.raises(rf.SpecError, match="techniques must begin with a technique's name"):
        rf.analyze(MODEL, HW, techniques=nothing)
    with pytest.raises(rf.SpecError, match="techniques must begin with a technique's name"):
        rf.sweep({"model": MODEL, "hw": HW, "techniques": [nothing]}).collect()


def test_a_sweep_takes_one_set_of_techniques_once() -> None:
    turned = ["kv-quant:bits=4+weight-quant:bits=8", "weight-quant:bits=8 + kv-quant:bits=4"]
    rows = rf.sweep({"model": MODEL, "hw": HW, "techniques": turned[:1]}).collect()
    assert rows["techniques"].to_list() == ["weight-quant:bits=8+kv-quant:bits=4"]
    with pytest.raises(rf.SpecError, match="techniques must"):
        rf.sweep({"model": MODEL, "hw": HW, "techniques": turned}).collect()


def test_memory_of_other_devices_is_shown() -> None:
    asked = rf.analyze("llama-2-70b", "a100", techniques="afd")
    assert asked.memory["beside"] == "FFN device"
    assert asked.memory["beside_weight_bytes"] == 80 * 3 * 8192 * 28_672 * 2
    assert not asked.memory["fits"]
    assert asked.memory["ideal_sequences"] == asked.memory["engine_sequences"] == 0
    assert "beside" not in rf.analyze(MODEL, HW).memory
    assert rf.evaluate({"batch_size": [1]}, model="llama-2-70b", hw="a100", techniques="afd")[
        "fits"
    ].to_list() == [False]
    with pytest.raises(rf.DoesNotFitError, match="A100-80GB-SXM, FFN device"):
        rf.simulate(
            model="llama-2-70b", hw="a100", techniques="afd", num_prompts=1, input_len=10, output_len=2
        )


def test_a_cache_that_lies_elsewhere_limits_no_concurrency() -> None:
    rows = {"techniques": ["none", "offload:what=kv", "kv-evict:budget=512"]}
    found = rf.evaluate(rows, model=MODEL, hw=HW, columns=["max_concurrency", "fits"])
    whole, elsewhere, kept = found["max_concurrency"].to_list()
    assert elsewhere is None
    assert kept > 3 * whole
    assert found["fits"].all()


def test_what_does_not_fit_elsewhere_is_named(command: Callable) -> None:
    done = command("analyze llama-2-70b --hw a100 --mode ideal --with afd")
    assert done.code == 3
    assert "FFN device  weights 105.0 + KV 0.0 of 80.0 GiB" in done.out
    assert "must fit in the 71.6 GiB an engine may use of the FFN device: 105.0 GiB" in done.err
