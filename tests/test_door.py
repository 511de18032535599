"""The door: what passes between Python and Rust, and how failures come out."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from roofline_fast import _core, errors


@pytest.mark.parametrize("what", ["panic", "panic-long"])
def test_a_panic_comes_out_as_an_internal_error_that_says_where(what: str) -> None:
    with pytest.raises(errors.InternalError, match=r"probe\.rs:\d+:\d+:\na probe was asked to panic"):
        _core._probe(what)


def test_a_panic_prints_nothing_of_its_own() -> None:
    script = """
from roofline_fast import _core, errors
try:
    _core._probe("panic")
except errors.InternalError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_ctrl_c_ends_a_long_call() -> None:
    started = time.monotonic()
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        _core._probe("wait")
    assert time.monotonic() - started < 5.0


def test_progress_moves_while_a_long_call_runs() -> None:
    progress = _core.Progress()
    seen = []

    def watch() -> None:
        while progress.done < 20:
            time.sleep(0.001)
        seen.append(progress.done)
        signal.raise_signal(signal.SIGINT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        _core._probe("wait", progress)
    watcher.join()
    assert seen[0] >= 20
    assert repr(progress) == f"Progress({progress.done} of 0)"


def test_an_error_says_what_must_hold_and_what_was() -> None:
    with pytest.raises(
        errors.SpecError, match=r"^what must be `panic`, `panic-long` or `wait`: sing$"
    ) as caught:
        _core._probe("sing")
    assert (caught.value.field, caught.value.value, caught.value.hint) == ("what", "sing", "")
    assert isinstance(caught.value, ValueError)


def test_errors_survive_being_sent_to_another_process() -> None:
    error = errors.TraceError("x.jsonl:3: no", field="a", value="b", hint="c", file="x.jsonl", line=3)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.__dict__) == (str(error), error.__dict__)


def test_every_error_is_a_roofline_error() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) == 7
    assert all(issubclass(each, errors.RooflineError) for each in classes)
