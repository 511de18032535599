"""What engines call drafts, and settings from files: the same words in every command and in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf

MODEL, HW = "llama-3.1-8b", "h100-sxm"
FLAGS = "--spec-method eagle --num-speculative-tokens 3 --spec-acceptance 0.7"
DRAFTS = {"spec_method": "eagle", "num_speculative_tokens": 3, "spec_acceptance": 0.7}
SAME = "spec:method=eagle,gamma=3,accept=0.7"

COMMANDS = {
    "analyze": f"analyze {MODEL} --hw {HW} -b 4",
    "compare": f"compare base tp=2 -m {MODEL} --hw {HW} -b 4",
    "break-even": f"break-even {MODEL} --hw {HW} -b 4",
    "simulate": f"simulate --num-prompts 5 --input-len 200 --output-len 20 -m {MODEL} --hw {HW}",
}


def figures(answer: Any) -> Any:
    """Return what an answer says but how its techniques are written: 0.7 is the same as 0.7/0.7/0.7."""
    if isinstance(answer, dict):
        return {key: figures(each) for key, each in answer.items() if key != "techniques"}
    if isinstance(answer, list):
        return [figures(each) for each in answer]
    return answer.replace("0.7/0.7/0.7", "0.7") if isinstance(answer, str) else answer


@pytest.mark.parametrize("name", COMMANDS)
def test_speculative_flags_are_the_technique_they_stand_for(command: Callable[..., Any], name: str) -> None:
    by_flags, by_technique = (
        command(f"{COMMANDS[name]} {how} --format json --quiet") for how in (FLAGS, f"--with {SAME}")
    )
    assert by_flags.code == by_technique.code == 0, by_flags.err
    assert figures(json.loads(by_flags.out)) == figures(json.loads(by_technique.out))


def test_sweeps_and_frames_draft_by_the_same_words(command: Callable[..., Any]) -> None:
    sweep = f"sweep -m {MODEL} --hw {HW} -b 4 --format csv --quiet --columns tpot_s"
    swept = pl.read_csv(command(f"{sweep} {FLAGS}").out.encode())["tpot_s"].item()
    asked = rf.analyze(MODEL, HW, batch_size=4, **DRAFTS).tpot_s
    rows = {"batch_size": [4, 4, 4], "num_speculative_tokens": [3, 0, 3]}
    priced = rf.evaluate(
        {**rows, "spec_acceptance": [0.7, 0.7, 0.2]},
        model=MODEL,
        hw=HW,
        spec_method="eagle",
        columns="tpot_s",
    )
    plain, worse = (rf.analyze(MODEL, HW, batch_size=4).tpot_s, {**DRAFTS, "spec_acceptance": 0.2})
    assert swept == pytest.approx(asked, rel=1e-9)
    assert priced["tpot_s"].to_list() == pytest.approx(
        [asked, plain, rf.analyze(MODEL, HW, batch_size=4, **worse).tpot_s], rel=1e-12
    )
    by_keyword = rf.evaluate({"batch_size": [4]}, model=MODEL, hw=HW, columns="tpot_s", **DRAFTS)
    assert by_keyword["tpot_s"].item() == pytest.approx(asked, rel=1e-12)


def test_a_simulation_says_what_its_flags_draft(command: Callable[..., Any]) -> None:
    line = f"{COMMANDS['simulate']} -q fp8 --with paging:block=16"
    by_flags, by_technique, plain = (
        json.loads(command(f"{line} {more} --format json").out)["techniques"]
        for more in (FLAGS, f"--with {SAME}", "")
    )
    assert by_flags == [*plain, "spec:method=eagle,gamma=3,accept=0.7/0.7/0.7"]
    assert sorted(by_technique) == sorted([*plain, SAME])
    recorded = FLAGS.replace("0.7", "pattern:2,1")
    assert any(
        "spec:" in each for each in json.loads(command(f"{line} {recorded} --format json").out)["techniques"]
    )


def test_frames_join_drafts_to_the_techniques_of_each_row() -> None:
    rows = pl.DataFrame(
        {
            "techniques": ["none", "kv-quant:bits=4", "kv-quant:bits=4"],
            "spec_method": ["ngram", None, "ngram"],
            "num_speculative_tokens": [2, None, 2],
            "spec_acceptance": ["0.8,0.4", None, "0.8,0.4"],
        }
    )
    priced = rf.evaluate(rows, model=MODEL, hw=HW, columns="tpot_s")["tpot_s"].to_list()
    both = "spec:method=ngram,gamma=2,accept=0.8/0.4"
    sets = [both, "kv-quant:bits=4", f"kv-quant:bits=4 + {both}"]
    assert priced == pytest.approx(
        [rf.analyze(MODEL, HW, techniques=each).tpot_s for each in sets], rel=1e-12
    )


def test_a_pattern_and_a_model_of_ones_own_draft_where_analyze_asks() -> None:
    drafts = {"spec_method": "draft-model", "num_speculative_tokens": 2, "spec_acceptance": "pattern:7,3"}
    by_name = rf.analyze(MODEL, HW, spec_model="llama-3.2-1b", **drafts)
    by_model = rf.analyze(MODEL, HW, spec_model=rf.Model("llama-3.2-1b"), **drafts)
    same = "spec:method=draft-model,draft=llama-3.2-1b,gamma=2,accept=0.6666666666666666/0.5"
    assert by_name.tpot_s == by_model.tpot_s == rf.analyze(MODEL, HW, techniques=same).tpot_s


SETTINGS = """
model = "llama-3.1-8b"
hw = "h100-sxm"
[step]
batch-size = 4
with = ["kv-quant:bits=4"]
[drafts]
spec-method = "eagle"
num-speculative-tokens = 3
spec-acceptance = 0.7
"""


@pytest.mark.parametrize("name", ["analyze", "compare", "break-even"])
def test_a_file_stands_for_flags(command: Callable[..., Any], name: str, tmp_path: Path) -> None:
    (tmp_path / "step.toml").write_text(SETTINGS)
    sides = "base tp=2 " if name == "compare" else ""
    by_file = command(f"{name} {sides}-c {tmp_path / 'step.toml'} --format json --quiet")
    by_flags = command(f"{COMMANDS[name]} {FLAGS} --with kv-quant:bits=4 --format json --quiet")
    assert by_file.code == by_flags.code == 0, by_file.err
    assert json.loads(by_file.out) == json.loads(by_flags.out)


@pytest.mark.parametrize("name", ["analyze", "break-even"])
def test_flags_and_a_named_model_win_over_settings_and_these_over_the_file(
    command: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    (tmp_path / "step.toml").write_text(SETTINGS)
    line = f"{name} llama-2-7b --config {tmp_path / 'step.toml'} --set step.batch_size=2 --set tp=2 --tp 1"
    flags = f"{FLAGS} --with kv-quant:bits=4"
    asked, same = (
        command(f"{each} --format json --quiet")
        for each in (line, f"{name} llama-2-7b --hw {HW} -b 2 {flags}")
    )
    assert asked.code == 0, asked.err
    assert json.loads(asked.out) == json.loads(same.out)


def test_what_is_set_of_both_sides_reaches_both(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "both.json").write_text(
        json.dumps({"model": MODEL, "hw": HW, "with": "kv-quant:bits=4", "tp": 4})
    )
    by_file = command(f"compare base weight-quant -c {tmp_path / 'both.json'}")
    assert "a side must read" in by_file.err
    asked = f"compare base with=weight-quant:bits=4 -c {tmp_path / 'both.json'} --tp 2 --format json"
    words = f"compare base with=weight-quant:bits=4 -m {MODEL} --hw {HW} --set with=kv-quant:bits=4 --tp 2"
    found, same = (json.loads(command(line).out) for line in (asked, f"{words} --format json"))
    assert found == same
    assert found["a"]["techniques"] == ["kv-quant:bits=4"]
    assert found["b"]["techniques"] == ["weight-quant:bits=4", "kv-quant:bits=4"]
    assert (found["a"]["tp"], found["b"]["tp"]) == (2, 2)


SPACE = '[axes]\nmodel = "llama-3.1-8b"\nhw = ["h100-sxm", "l40s"]\ntp = [1, 2]\nbatch_size = "1:64:x4"\n'


def test_a_sweep_takes_its_file_by_the_same_flags(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    by_place, by_flag = (
        command(f"sweep {how}{tmp_path / 'space.toml'} --format json") for how in ("", "-c ")
    )
    assert by_place.code == 0, by_place.err
    assert by_place.out == by_flag.out
    words = "--set axes.tp=1 --set hw=l40s --set limits.max_gpus=1 --set keep=topk --set objectives=step_s --set top=2"
    found = json.loads(command(f"sweep --scenario {tmp_path / 'space.toml'} {words} --format json").out)
    assert (found["points"], found["kept"]) == (4, 2)
    alone = (
        f"sweep --set model={MODEL} --hw h100-sxm --set with=none,kv-quant:bits=4 --set axes.batch-size=1,2"
    )
    assert json.loads(command(f"{alone} --format json").out)["points"] == 4
    simulated = f"sweep --simulate --set num_prompts=5 --hw {HW} --set max_num_seqs=2,4 -m {MODEL}"
    assert json.loads(command(f"{simulated} --format json").out)["points"] == 2


MISTAKES = {
    f"analyze {MODEL} --hw {HW} --spec-method eagle": (
        "num_speculative_tokens must be given with spec_method: absent",
        "for example 3",
    ),
    f"analyze {MODEL} --hw {HW} --nextn 3": (
        "spec_method must be given with num_speculative_tokens: none",
        "eagle",
    ),
    f"analyze {MODEL} --hw {HW} --spec-method eagles --nextn 3 --spec-acceptance 0.5": (
        "no speculation method is called `eagles`",
        "nearest: eagle",
    ),
    f"analyze {MODEL} --hw {HW} --spec-method ngram --nextn 0 --spec-acceptance 0.5": (
        "num_speculative_tokens must be from 1 to 65536: 0",
        "leave speculation out",
    ),
    f"break-even {MODEL} --hw {HW} --spec-method ngram --nextn 2 --spec-acceptance 1.5": (
        "spec_acceptance must be one chance or one a position, each from 0 to 1: [1.5]",
        "",
    ),
    f"analyze {MODEL} --hw {HW} --spec-method draft-model --nextn 2 --spec-acceptance 0.5": (
        "spec_model must be given with spec_method draft-model: absent",
        "llama-3.2-1b",
    ),
    f"analyze {MODEL} --hw {HW} --spec-model llama-3.2-1b": (
        "spec_model must be given with spec_method draft-model only: llama-3.2-1b",
        "",
    ),
    f"analyze {MODEL} --hw {HW} {FLAGS} --with spec:gamma=2,accept=0.5": (
        "spec_method must not be given beside `spec:gamma=2,accept=0.5`, which says the same thing: eagle",
        "one of them",
    ),
    f"analyze llama-2-7b --hw a6000 --compat llm-viewer {FLAGS}": (
        "spec_method must be left out with compat",
        "",
    ),
    f"compare base tp=2 {FLAGS} --with spec:gamma=2,accept=0.5 -m {MODEL} --hw {HW}": (
        "spec_method must not be given beside",
        "one of them",
    ),
    "compare base tp=2 -c nowhere.toml": ("nowhere.toml must exist", ""),
    "compare base tp=2 -c README.md": ("a file of settings must end in .json or .toml: README.md", ""),
    "analyze -c nowhere.toml": ("nowhere.toml must exist", ""),
    f"analyze {MODEL} --hw {HW} --set batchsize=2": ("batchsize is not known (nearest: batch_size", "--set"),
    f"sweep --hw {HW} -m {MODEL} --set tpp=1": ("--set must set what a scenario has: tpp", "nearest: tp, pp"),
    f"sweep --hw {HW} -m {MODEL} --set tp": ("--set must be KEY=VALUE: tp", "axes.tp=1,2"),
    f"sweep --hw {HW} -m {MODEL} --set pp=1 --set axes.pp=2": ("--set must set axes.pp once: axes.pp=2", ""),
    f"sweep --hw {HW} -m {MODEL} --set limits.max_gpu=1": (
        "--set has a mistake:\n  limits.max_gpu is not known",
        "",
    ),
    f"sweep README.md -c README.md --hw {HW}": (
        "SPACE must be given once: README.md and --config README.md",
        "",
    ),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_with_a_hint(command: Callable[..., Any], line: str) -> None:
    message, hint = MISTAKES[line]
    done = command(line)
    assert (done.code, done.out) == (2, ""), done.err
    assert message in done.err
    assert hint in done.err


def test_frames_say_in_which_row_a_draft_is_no_draft() -> None:
    asked = {"num_speculative_tokens": [0, 2], "spec_method": ["eagle", "eagle"]}
    with pytest.raises(rf.SpecError, match="row 1: spec_acceptance must be given with spec_method"):
        rf.evaluate(asked, model=MODEL, hw=HW)
    with pytest.raises(rf.SpecError, match="spec_method must be a column or a keyword"):
        rf.evaluate(asked, model=MODEL, hw=HW, spec_method="eagle")
    with pytest.raises(rf.SpecError, match="spec_model must be given with spec_method draft-model only"):
        rf.evaluate({"batch_size": [1]}, model=MODEL, hw=HW, spec_model="llama-3.2-1b", **DRAFTS)
