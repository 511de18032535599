"""Slips that would otherwise pass unseen: lost inputs, misspelt columns, things that are no model."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roofline_fast as rf

ROOT = Path(__file__).parent.parent
FIXED: dict[str, Any] = {"model": "llama-3.1-8b", "hw": "h100-sxm"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "examples" / "chat.jsonl", tmp_path / "v.jsonl"))


@pytest.mark.parametrize("words", [["simulate", "--hw", "h100-sxm"], ["trace", "inspect"]])
@pytest.mark.parametrize("output", ["v.jsonl", "../{folder}/v.jsonl", "link.jsonl"])
def test_a_trace_is_never_overwritten(
    words: list[str], output: str, trace: Path, command: Callable[..., Any]
) -> None:
    (trace.parent / "link.jsonl").symlink_to(trace)
    before = trace.read_bytes()
    out = trace.parent / output.format(folder=trace.parent.name)
    done = command([*words, str(trace), "-o", str(out)])
    assert done.code == 2
    assert f"error: --output must be another file than the input: {out}\nhint: " in done.err
    assert trace.read_bytes() == before


@pytest.mark.parametrize("given", ["config.json", ""])
def test_a_configuration_is_never_overwritten(
    given: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(rf.Model("llama-2-7b").config_text)
    before = file.read_bytes()
    for words in (["analyze", str(tmp_path / given), "--hw", "h100-sxm"], ["catalog", "models", str(file)]):
        done = command([*words, "-o", str(file)])
        assert done.code == 2
        assert "--output must be another file than the input" in done.err
    assert file.read_bytes() == before


def test_suffixes_are_read_in_any_case(tmp_path: Path, command: Callable[..., Any]) -> None:
    file = tmp_path / "ops.CSV"
    assert command(f"analyze llama-3.1-8b --hw h100-sxm -o {file}").code == 0
    assert pl.read_csv(file).height == rf.analyze(**FIXED).ops.height


@pytest.mark.parametrize("line", ["simulate examples/chat.jsonl --hw h100-sxm", "catalog models", "--help"])
def test_a_closed_stdout_is_one_line(line: str) -> None:
    words = f"exec {sys.executable} -m roofline_fast {line} >&-"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (2, "error: stdout must be open: it is closed\n")


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("bach_size", "nearest: batch_size"),
        ("Batch-Size", "nearest: batch_size"),
        ("inputlen", "nearest: input_len"),
        ("input_length", "nearest: input_len"),
        ("dtype", "nearest: quantization"),
        ("tensor_parallel_size", "nearest: tp"),
        ("TP", "nearest: tp"),
        ("hardware", "nearest: hw"),
        ("engine", "one evaluate for each"),
        ("block_size", "one evaluate for each"),
        ("overlap", "rename the column"),
    ],
)
def test_a_column_that_was_meant_to_be_an_axis_is_refused(column: str, hint: str) -> None:
    with pytest.raises(rf.SpecError, match=column) as caught:
        rf.evaluate({column: [1, 2]}, **FIXED)
    assert caught.value.hint.startswith(hint)
    assert caught.value.field == column


@pytest.mark.parametrize("column", ["id", "name", "model_id", "my_model", "node", "code", "depth", "cluster"])
def test_other_columns_are_the_users_own(column: str) -> None:
    priced = rf.evaluate({column: ["a", "b"], "tp": [1, 2]}, **FIXED, columns=["step_s"])
    assert priced[column].to_list() == ["a", "b"]


@pytest.mark.parametrize("frame", [[1, 2], None, 3, "llama", [], pl.Series([1, 2]), np.array([1, 2])])
def test_what_is_no_frame_is_refused(frame: Any) -> None:
    with pytest.raises(rf.SpecError, match="frame must be a data frame or a mapping of columns: "):
        rf.evaluate(frame, **FIXED)


def test_columns_of_unequal_length_are_named_with_their_lengths() -> None:
    with pytest.raises(rf.SpecError, match="columns must have the same length: batch_size 2, tp 3"):
        rf.evaluate({"batch_size": [1, 2], "tp": [1, 2, 4]}, **FIXED)


def test_a_column_of_several_types_is_refused() -> None:
    with pytest.raises(rf.SpecError, match="frame must have columns of equal length and one type each"):
        rf.evaluate({"batch_size": [1, "two"]}, **FIXED)


@pytest.mark.parametrize("column", ["batch_size", "tp", "phase", "model"])
def test_a_column_of_nulls_is_refused(column: str) -> None:
    fixed = {name: value for name, value in FIXED.items() if name != column}
    with pytest.raises(rf.SpecError, match=column):
        rf.evaluate({column: [None, None]}, **fixed)


def test_no_rows_in_are_no_rows_out() -> None:
    whole = rf.evaluate({"model": ["llama-3.1-8b"], "hw": ["h100-sxm"], "batch_size": [1]})
    empty = rf.evaluate({"model": [], "hw": [], "batch_size": []})
    assert empty.columns == whole.columns
    assert empty.height == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rf.analyze(3, "h100"), "model must be a name, a path, a configuration or a Model: 3"),
        (lambda: rf.analyze(None, "h100"), "model must be .*: None"),
        (lambda: rf.analyze("llama-3.1-8b", 3), "hw must be a name, a TOML file or a Hardware: 3"),
        (lambda: rf.Model(3), "model must be a name: 3"),
        (lambda: rf.Hardware(3), "hw must be a name: 3"),
        (lambda: rf.Model.from_config(3), "model must be a `config.json`, its folder or its content: 3"),
        (lambda: rf.Model.from_config("nope.json"), "a model's file must exist: nope.json"),
        (lambda: rf.simulate(3, hw="h100"), "trace must be a path or a Trace: 3"),
    ],
)
def test_what_is_no_model_device_or_trace_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(rf.SpecError, match=message):
        call()


def test_a_missing_file_is_a_file_not_found_too() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        rf.Model.from_config("nope.json")
    assert "config.json" in getattr(caught.value, "hint", "")


def test_an_unknown_keyword_of_simulate_is_answered_with_the_nearest() -> None:
    with pytest.raises(rf.SpecError, match="max_num_seq") as caught:
        rf.simulate("examples/chat.jsonl", hw="h100-sxm", max_num_seq=3)
    assert caught.value.hint.startswith("nearest: max_num_seqs, ")


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ({"output_len": 5}, "output_len 5 changes nothing in decode: only chat generates several tokens"),
        ({"phase": "prefill", "output_len": 5}, "output_len 5 changes nothing in prefill"),
        ({"chunk": 5}, "chunk 5 changes nothing in decode"),
        ({"phase": "prefill", "chunk": 0}, "chunk 0 taken as no chunks"),
    ],
)
def test_what_changes_nothing_is_said(asked: dict[str, Any], note: str) -> None:
    assert any(said.startswith(note) for said in rf.analyze(**FIXED, **asked).notes)


def test_nothing_is_said_where_everything_is_used() -> None:
    assert rf.analyze(**FIXED).notes == []
    assert rf.analyze(**FIXED, phase="chat", output_len=5, chunk=512).notes == []


def test_a_name_that_says_less_than_the_catalogue_is_said_aloud() -> None:
    assert rf.Model("bert-base").note == "`bert-base` taken as `bert-base-uncased`"
    assert rf.Model("bert-base").note in rf.analyze("bert-base", "h100-sxm").notes
    for spelling in ("llama-3.1-8b", "Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct"):
        assert rf.Model(spelling).note is None


def test_a_checkpoint_that_runs_in_fewer_bits_is_said_aloud() -> None:
    note = "GPT-2 is stored in fp32, run in bf16; -q fp32 (quantization=) to keep it"
    assert note in rf.analyze("gpt2", "h100-sxm", input_len=512).notes
    assert note in rf.simulate(_two(), model="gpt2", hw="h100-sxm").notes
    for kept in ("fp32", "bf16"):
        assert note not in rf.analyze("gpt2", "h100-sxm", input_len=512, quantization=kept).notes


def _two() -> rf.Trace:
    return rf.Trace(arrival_s=[0.0, 0.001], prompt_tokens=[10, 10], output_tokens=[2, 2])


def test_two_requests_have_no_rate(tmp_path: Path, command: Callable[..., Any]) -> None:
    file = tmp_path / "two.jsonl"
    row = '{"timestamp": %d, "input_length": 10, "output_length": 5}\n'
    file.write_text(row % 0 + row % 1)
    done = command(["simulate", str(file), "--hw", "h100-sxm"])
    assert ", – req/s, in 10 / out 5 tokens" in done.out
    assert "load        offered – req/s, served " in done.out
    assert "2,000 req/s" not in done.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--dataset-path", "x.jsonl"], "the file is the argument"),
        (["--save-result"], "`-o FILE.parquet` writes a row a request"),
        (["--speculative-config", "{}"], "`--spec-method ngram"),
        (["--num-gpus", "8"], "`--tp N` shares every layer"),
        (["-tp", "2"], "long names have two dashes: `--tp 2`"),
        (["--tp", "1,2"], "`roofline-fast sweep` tries several values"),
        (["--goodput", "ttft:500", "tpot:50"], 'stand in quotes: `--goodput "ttft:500 tpot:50"`'),
    ],
)
def test_flags_of_other_tools_are_answered_with_what_says_the_same(
    words: list[str], hint: str, command: Callable[..., Any]
) -> None:
    done = command(["simulate", "--hw", "h100-sxm", "--num-prompts", "5", *words])
    assert done.code == 2
    assert hint in done.err


def test_what_flags_of_other_tools_are_answered_with_can_be_asked(command: Callable[..., Any]) -> None:
    from roofline_fast.cli.elsewhere import HINTS

    wholes = {said for hint in HINTS.values() for said in re.findall(r"`(--[^`…]+)`", hint)}
    asked = [said.replace(" N", " 2") for said in wholes]
    assert len(asked) > 8
    for said in asked:
        done = command(f"simulate --hw h100-sxm --num-prompts 5 --request-rate 4 --quiet {said}")
        assert done.code == 0, (said, done.err)


def test_lengths_have_the_names_of_random_data_sets_too(command: Callable[..., Any]) -> None:
    ask = "simulate --hw h100-sxm --num-prompts 5 --format json --quiet"
    own = command(f"{ask} --input-len 100 --output-len 7 --prefix-len 32")
    assert own.code == 0
    assert (
        command(f"{ask} --random-input-len 100 --random-output-len 7 --random-prefix-len 32").out == own.out
    )


def test_what_cannot_be_written_is_told_by_the_name_it_was_given(tmp_path: Path) -> None:
    from roofline_fast.atomic_file import aside

    def disk_full(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    def fill(path: Path) -> None:
        with aside(path) as part:
            disk_full(part)

    with pytest.raises(OSError, match="must be writable: No space left on device") as caught:
        fill(tmp_path / "out.csv")
    assert caught.value.filename == str(tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())
