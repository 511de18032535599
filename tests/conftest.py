"""What tests share: the command in this process, and whole outputs compared with files."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOTS = Path(__file__).parent / "snapshots"
SHARED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Done:
    """What a command wrote, and how it ended."""

    code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write the outputs instead of comparing")


def pytest_configure() -> None:
    """Let interrupts through: a shell starts what it puts in the background deaf to them, and its children with it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run ``roofline-fast`` in this process, in the root of the repository."""
    from roofline_fast.cli import run

    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("ROOFLINE_FAST_DATA", raising=False)
    monkeypatch.chdir(ROOT)

    def call(line: str | list[str]) -> Done:
        capsys.readouterr()
        code = run(shlex.split(line) if isinstance(line, str) else line)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture
def snapshot(command: Callable[..., Done], request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare everything a command writes with ``tests/snapshots/NAME.txt``."""

    def check(name: str, line: str) -> None:
        done = command(line)
        talk = re.sub(r"in [\d.]+ s, [\d,]+x real time", "in … s, …x real time", done.err)
        said = f"$ roofline-fast {line}\n{done.out}[stderr]\n{talk}[exit {done.code}]\n"
        file = SNAPSHOTS / f"{name}.txt"
        if request.config.getoption("--update-snapshots"):
            file.write_text(said, encoding="utf-8")
        assert said == file.read_text(encoding="utf-8"), "run pytest --update-snapshots if this is meant"

    return check


def shared(*path: str) -> Path:
    """Return a file of the collection of real traces beside the repository, or skip where it is absent."""
    file = SHARED.joinpath(*path)
    if not file.exists():
        pytest.skip(f"the collection of traces is not beside the repository: {file}")
    return file
