"""The command line: help, errors, suggestions and exit codes."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys

import pytest
from roofline_fast import __version__, cli, errors
from roofline_fast.cli import talk

HELP_CPU_S = 0.2


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1"}
    program = [sys.executable, "-m", "roofline_fast", *arguments]
    return subprocess.run(program, capture_output=True, text=True, env=environment, check=False)


def test_version_is_the_one_of_the_library() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"roofline-fast {__version__}\n")


def test_no_arguments_show_the_help() -> None:
    assert command().stdout == command("--help").stdout
    assert command().returncode == 0


def test_help_answers_within_its_budget() -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_CPU_S


@pytest.mark.parametrize(
    "arguments", ["--help", "analyze --help", "simulate --help", "catalog models --help"]
)
def test_help_imports_nothing_heavy(arguments: str) -> None:
    script = f"""
import sys
from roofline_fast.cli import run
run({arguments.split()!r})
heavy = {{"polars", "numpy", "rich", "roofline_fast._core"}} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_flag_names_the_nearest() -> None:
    done = command("--hlep")
    assert done.returncode == 2
    assert done.stderr == (
        "error: no flag is called `--hlep`\nhint: nearest: --help, --show-completion, --version\n"
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.SpecError("tp must be even: 1", hint="use 2"), 2, "error: tp must be even: 1\nhint: use 2\n"),
        (errors.DoesNotFitError("it must fit: 131.4 GiB"), 3, "error: it must fit: 131.4 GiB\n"),
        (FileNotFoundError(2, "No such file", "x.jsonl"), 2, "error: x.jsonl: No such file\n"),
        (KeyError("x"), 1, "broke one of its own rules"),
        (errors.InternalError("rust/core/src/x.rs:1: boom"), 1, "  InternalError: rust/core/src/x.rs:1"),
    ],
)
def test_a_failure_is_a_sentence_a_hint_and_an_exit_code(
    error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk.failure(error) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_an_internal_report_fits_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("\n".join(f"line {number}" for number in range(100)))
    except RuntimeError as error:
        talk.failure(error)
    assert len(capsys.readouterr().err.splitlines()) <= 24


def test_a_closed_pipe_ends_quietly() -> None:
    script = f"{sys.executable} -m roofline_fast --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which shell is asked is read off the processes around; typer's own tests name it so.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = command("--show-completion", shell)
    assert done.returncode == 0
    assert f"_ROOFLINE_FAST_COMPLETE=complete_{shell}" in done.stdout


def test_help_lists_each_command_by_the_first_line_of_its_own_help() -> None:
    for name, summary in cli.COMMANDS.items():
        module = importlib.import_module(f"roofline_fast.cli.{name.replace('-', '_')}")
        assert module.HELP.splitlines()[0] == summary
