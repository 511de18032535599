"""What the compiled half answers: the catalogue, one cost model behind every question, traces."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from roofline_fast import _core, errors

CHAT = Path(__file__).parent.parent / "examples" / "chat.jsonl"
MEMORY = _core.Engine("vllm").memory(_core.Hardware("h100"))


@pytest.fixture(scope="module")
def deployment() -> _core.Deployment:
    model, hardware = _core.Model("llama-3.1-8b"), _core.Hardware("h100")
    return _core.Deployment(model, hardware, _core.Layout(), _core.Precision())


def test_names_are_forgiving_and_unknown_ones_name_the_nearest() -> None:
    assert _core.Model("meta-llama/Llama-3.1-8B-Instruct") == _core.Model("llama-3.1-8b")
    assert _core.Hardware("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    with pytest.raises(errors.UnknownNameError, match=r"no hardware is called `h1000`") as caught:
        _core.Hardware("h1000")
    assert caught.value.hint.startswith("nearest: h100")


def test_the_catalogue_has_one_row_a_name() -> None:
    for kind in (_core.Hardware, _core.Model):
        assert pl.DataFrame(kind.catalog())["name"].to_list() == kind.names()
    assert {"field", "value", "unit", "source"} == set(_core.Hardware("h100").facts().columns)


def test_a_missing_file_is_the_error_python_has_for_it(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(FileNotFoundError) as caught:
        _core.Hardware.from_toml(missing)
    assert str(caught.value.filename) == str(missing)
    with pytest.raises(FileNotFoundError):
        _core.Model.from_config(tmp_path)


def test_a_trace_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(
        '{"arrival_s":0,"prompt_tokens":1,"output_tokens":1}\n{"arrival_s":1,"prompt_tokens":-1,"output_tokens":1}\n'
    )
    with pytest.raises(errors.TraceError) as caught:
        _core.Trace.read([str(file)])
    assert (caught.value.file, caught.value.line) == (str(file), 2)
    assert caught.value.field == "prompt_tokens"


def test_analyze_and_evaluate_say_the_same(deployment: _core.Deployment) -> None:
    sizes = np.array([1, 7, 64, 256])
    columns = {"batch_size": sizes, "input_len": 2048}
    models, devices = [_core.Model("llama-3.1-8b")], [_core.Hardware("h100")]
    frame = _core.Configurations(4, columns, models=models, devices=devices, engines=[MEMORY])
    table = pl.DataFrame(frame.evaluate(["step_s", "bound"]))
    assert table.columns == ["step_s", "bound"]
    for size, seconds, bound in zip(sizes, table["step_s"], table["bound"], strict=True):
        point = _core.Point("decode", batch_size=int(size), input_len=2048)
        answer = _core.analyze(deployment, point, MEMORY)
        assert (answer.step_s, answer.bound) == (pytest.approx(seconds, rel=1e-12), bound)
        ops = pl.DataFrame(answer.ops)
        assert ops["predicted_s"].sum() == pytest.approx(answer.step_s, rel=1e-9)


def test_a_simulated_request_pays_the_analyzed_steps(deployment: _core.Deployment) -> None:
    one = np.array([1])
    trace = _core.Trace(one * 0.0, one * 1000, one * 3)
    engine = _core.Engine("vllm-sync", enable_prefix_caching=False)
    simulation = engine.simulate(deployment, trace, record="steps")
    request = pl.DataFrame(simulation.requests).row(0, named=True)
    prefill = _core.analyze(deployment, _core.Point("prefill", batch_size=1, input_len=1000), MEMORY)
    assert request["ttft_s"] == pytest.approx(prefill.step_s, rel=1e-9, abs=2e-9)
    chat = _core.analyze(deployment, _core.Point("chat", batch_size=1, input_len=1000, output_len=3), MEMORY)
    assert request["e2e_s"] == pytest.approx(chat.step_s, rel=1e-9, abs=5e-9)
    assert simulation.steps.num_rows == 3


def test_the_same_trace_gives_the_same_summary_and_counts_progress(deployment: _core.Deployment) -> None:
    trace, progress = _core.Trace.read([str(CHAT)]), _core.Progress()
    first = _core.Engine().simulate(deployment, trace, progress=progress)
    again = _core.Engine().simulate(deployment, trace)
    assert first.summary("ttft:500 tpot:50") == again.summary("ttft:500 tpot:50")
    assert progress.done == progress.total == len(trace) == 400


def test_calls_run_beside_other_python_threads(deployment: _core.Deployment) -> None:
    trace = _core.Trace.read([str(CHAT)])
    results: list[float | None] = []

    def simulate() -> None:
        results.append(_core.Engine().simulate(deployment, trace).summary()["mean_ttft_ms"])

    threads = [threading.Thread(target=simulate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == 4


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    model, hardware = _core.Model("llama-3.1-70b"), _core.Hardware("h100")
    deployment = _core.Deployment(model, hardware, _core.Layout(), _core.Precision())
    with pytest.raises(errors.DoesNotFitError, match=r"must fit in \d+\.\d GiB: \d+\.\d GiB"):
        _core.Engine().simulate(deployment, _core.Trace.read([str(CHAT)]))
