"""The examples of the README: each is run, and what it shows is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LONGEST = 200


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)
    assert found, f"no {language} examples"
    return found


def shown_commands() -> list[tuple[str, str]]:
    """Return each `$ roofline-fast …` line with the output shown below it."""
    parts = [part for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.M) if part]
    pairs = [part.partition("\n")[::2] for part in parts]
    return [(command, output) for command, output in pairs if command.startswith("roofline-fast")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_the_python_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize(("command", "output"), shown_commands())
def test_the_commands_show_what_they_are_said_to(command: str, output: str) -> None:
    program = [sys.executable, "-m", "roofline_fast", *shlex.split(command)[1:]]
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1"}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in output.split())
    assert re.fullmatch(pattern + r"\s*", done.stdout, flags=re.S), done.stdout


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert all((ROOT / target).exists() for target in targets)
