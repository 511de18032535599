"""LLM-Viewer's own figures, recorded by running it, against what ``compat="llm-viewer@…"`` gives.

The cases are those found at collection in ``$ROOFLINE_LLM_VIEWER_GOLDEN``, any number of them; without the
variable, in the file beside the repository.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf

VARIABLE = "ROOFLINE_LLM_VIEWER_GOLDEN"
DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "llm_viewer" / "golden.json"
TOLERANCE = 1e-9

# The tool's arguments with its defaults (a KV width of None is the activations'), and ours for each of them.
DEFAULTS = {"w_bit": 16, "a_bit": 16, "kv_bit": None, "use_flashattention": False, "tp_size": 1}
LENGTHS = {"analyze": {"seqlen"}, "analyze_generate_task": {"prompt_len", "gen_len"}}


@dataclass(frozen=True)
class Case:
    """One recorded run: what was asked of the tool, and what it answered."""

    version: str
    call: str
    config: dict[str, Any]
    hardware: str
    inputs: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class Unreadable:
    """What is wrong with the golden file, or with one case of it: a test that fails."""

    reason: str


def read_case(raw: Any, models: Any) -> Case | Unreadable:
    """One entry of the file, or why it cannot be compared: never less than it says."""
    try:
        call, inputs = raw["call"], {**DEFAULTS, **raw["inputs"]}
        result, error = raw.get("result"), raw.get("error")
        case = Case(raw["version"], call, models[raw["model"]], raw["hardware"], inputs, result, error)
    except (KeyError, TypeError, AttributeError) as problem:
        return Unreadable(f"a case must have version, call, model, hardware and inputs: {problem!r}")
    if call not in LENGTHS:
        return Unreadable(f"the call must be one of {sorted(LENGTHS)}: {call!r}")
    wanted = {"batchsize", *LENGTHS[call], *DEFAULTS}
    if set(inputs) != wanted:
        return Unreadable(f"the inputs must be {sorted(wanted)}: {sorted(inputs)}")
    if (result is None) == (error is None):
        return Unreadable("a case must have either a result or an error")
    return case


def golden_cases(path: Path, *, explicit: bool) -> Iterator[Any]:
    """Yield the parameters of the test: the cases of `path`, or one saying why there are none.

    A file that was asked for fails where it holds no cases; one that merely could have been there skips.
    """
    if not explicit and not path.exists():
        reason = f"the recorded figures are not beside the repository: {path}"
        yield pytest.param(Unreadable(reason), id="golden-file", marks=pytest.mark.skip(reason=reason))
        return
    try:
        golden = json.loads(path.read_text(encoding="utf-8"))
        cases, models = golden["cases"], golden["models"]
        if not isinstance(cases, list) or not cases:
            raise ValueError("it has no cases")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        reason = f"the golden file must hold cases: {str(path)!r}: {problem!r}"
        yield pytest.param(Unreadable(reason), id="golden-file")
        return
    for index, raw in enumerate(cases):
        name = raw.get("id") if isinstance(raw, dict) else None
        yield pytest.param(read_case(raw, models), id=str(name or f"case-{index}"))


def given_cases() -> list[Any]:
    """Read the cases of the file that the variable names, else of the one beside the repository."""
    given = os.environ.get(VARIABLE)
    return list(golden_cases(DEFAULT if given is None else Path(given), explicit=given is not None))


def ask(case: Case) -> Any:
    """Put the same question through the public door."""
    inputs = case.inputs
    if case.call == "analyze":
        lengths = {"input_len": inputs["seqlen"]}
    else:
        lengths = {"input_len": inputs["prompt_len"], "output_len": inputs["gen_len"], "phase": "chat"}
    return rf.analyze(
        rf.Model.from_config(case.config),
        case.hardware,
        compat=f"llm-viewer@{case.version}",
        batch_size=inputs["batchsize"],
        w_bits=inputs["w_bit"],
        a_bits=inputs["a_bit"],
        kv_bits=inputs["a_bit"] if inputs["kv_bit"] is None else inputs["kv_bit"],
        flash_attention=inputs["use_flashattention"],
        tp=inputs["tp_size"],
        **lengths,
    )


def answer_of(case: Case) -> dict[str, Any]:
    """Our answer in the tool's shape: phase, operator, field; and ``total_results``."""
    analysis = ask(case)
    totals = dict(analysis.totals)
    if case.call == "analyze_generate_task":
        return totals
    answer: dict[str, Any] = {"total_results": totals}
    for row in analysis.ops.iter_rows(named=True):
        phase = answer.setdefault(row.pop("phase"), {})
        op = row.pop("op")
        assert op not in phase, f"{op} stands twice in a phase"
        phase[op] = row
    return answer


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Every field that is missing, extra or off, with its path."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = [f"{place}.{key} is not the tool's" for key in ours.keys() - theirs.keys()]
        found += [f"{place}.{key} is missing" for key in theirs.keys() - ours.keys()]
        for key in theirs.keys() & ours.keys():
            found += differences(ours[key], theirs[key], f"{place}.{key}")
        return sorted(found)
    if isinstance(theirs, int | float) and isinstance(ours, int | float):
        same = math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=0.0)
    else:
        same = ours == theirs
    return [] if same else [f"{place}: {ours!r}, the tool says {theirs!r}"]


def carries(text: str, expected: str) -> bool:
    """Whether our refusal carries the tool's exception; an unknown name may be said in our own words."""
    kind, _, message = expected.partition(":")
    looked_up = kind == "KeyError" and message.strip(" '\"") in text
    return expected.strip() in text or looked_up


@pytest.mark.parametrize("case", given_cases())
def test_a_recorded_run_of_the_tool_is_reproduced(case: Case | Unreadable) -> None:
    if isinstance(case, Unreadable):
        pytest.fail(case.reason)
    if case.error is not None:
        with pytest.raises(rf.RooflineError) as refusal:
            answer_of(case)
        assert carries(str(refusal.value), case.error), f"{refusal.value} does not carry {case.error!r}"
        return
    found = differences(answer_of(case), case.result)
    assert not found, f"{len(found)} differences, the first:\n" + "\n".join(found[:20])


def problem_of(path: Path, *, explicit: bool) -> tuple[str, bool]:
    """Read a file without cases: the reason it gives, and whether it skips."""
    (parameter,) = golden_cases(path, explicit=explicit)
    (problem,) = parameter.values
    assert isinstance(problem, Unreadable)
    return problem.reason, bool(parameter.marks)


WITHOUT_CASES = ["", "{", "[]", "{}", '{"cases": [], "models": {}}', '{"cases": {}, "models": {}}']


@pytest.mark.parametrize("content", WITHOUT_CASES)
def test_a_golden_file_that_was_asked_for_but_has_no_cases_fails(tmp_path: Path, content: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(content)
    reason, skips = problem_of(path, explicit=True)
    assert str(path) in reason
    assert not skips


def test_a_golden_file_that_was_asked_for_but_is_missing_fails(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path, Path()):
        assert not problem_of(path, explicit=True)[1]


def test_without_the_file_beside_the_repository_the_test_skips_with_its_place(tmp_path: Path) -> None:
    reason, skips = problem_of(tmp_path / "nowhere.json", explicit=False)
    assert skips
    assert "nowhere.json" in reason


def test_a_case_that_says_more_or_less_than_we_compare_fails() -> None:
    whole = {
        "version": "1893e4b",
        "call": "analyze",
        "model": "m",
        "hardware": "nvidia_A40",
        "inputs": {"batchsize": 1, "seqlen": 1},
        "result": {},
    }
    models = {"m": {}}
    assert isinstance(read_case(whole, models), Case)
    wrong = [
        {**whole, "call": "analyse"},
        {**whole, "inputs": {"batchsize": 1}},
        {**whole, "inputs": {"batchsize": 1, "seqlen": 1, "kv_token_ratio": 2}},
        {**whole, "error": "KeyError: 'INT8'"},
        {**whole, "model": "unknown"},
        {**whole, "inputs": None},
        {},
        None,
    ]
    for raw in wrong:
        assert isinstance(read_case(raw, models), Unreadable), raw


def test_every_difference_is_found() -> None:
    theirs = {"decode": {"q_proj": {"OPs": 10, "bound": "memory", "load_weight": 0}}}
    row = theirs["decode"]["q_proj"]
    assert differences({"decode": {"q_proj": {**row, "OPs": 10.0 + 1e-9}}}, theirs) == []
    for wrong in (
        {},
        {"decode": {}},
        {"decode": {"q_proj": row, "k_proj": row}},
        {"decode": {"q_proj": {**row, "OPs": 10.0 + 1e-7}}},
        {"decode": {"q_proj": {**row, "OPs": None}}},
        {"decode": {"q_proj": {**row, "OPs": math.nan}}},
        {"decode": {"q_proj": {**row, "bound": "compute"}}},
        {"decode": {"q_proj": {**row, "load_weight": 1e-300}}},
        {"decode": {"q_proj": {**row, "extra": 1}}},
    ):
        assert len(differences(wrong, theirs)) == 1, wrong


def test_a_refusal_carries_the_tools_exception() -> None:
    assert carries("tp must divide (AssertionError: key_value_heads % tp_size == 0): 8", "AssertionError: ")
    assert carries("no LLM-Viewer hardware is called `nvidia_B200`", "KeyError: 'nvidia_B200'")
    assert not carries("no LLM-Viewer hardware is called `nvidia_B200`", "KeyError: 'INT8'")
    assert not carries("batch_size must be at least 1: 0", "AssertionError: ")
