"""The commands on the pages under docs: each is run, and what it shows is what comes out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import roofline_fast as rf

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "docs" / name for name in ("techniques.md", "survey.md", "sweeps.md", "llm-viewer.md")]
BLOCK = re.compile(r"^```console\n(.*?)^```$", flags=re.M | re.S)


def commands(block: str) -> list[str]:
    found = re.findall(r"^\$ (.*)$", block, flags=re.M)
    assert found, block
    return found


def shown(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text())
    assert blocks, f"{page.name} shows no commands"
    return blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(
    page: Path, command: Callable, request: pytest.FixtureRequest
) -> None:
    def run(line: str) -> str:
        words = shlex.split(line)
        assert words[0] == "roofline-fast", line
        done = command(words[1:])
        assert done.code == 0, f"{line}\n{done.err}"
        return done.out

    def fresh(block: re.Match[str]) -> str:
        said = "".join(f"$ {line}\n{run(line)}" for line in commands(block.group(1)))
        return f"```console\n{said}```"

    text = page.read_text()
    again = BLOCK.sub(fresh, text)
    if request.config.getoption("--update-snapshots"):
        page.write_text(again, encoding="utf-8")
    else:
        assert again == text


def test_every_technique_has_a_section_that_says_what_the_catalogue_says() -> None:
    page = PAGES[0].read_text()
    names = rf.catalog("techniques")["name"].to_list()
    assert names
    for name in names:
        assert f"\n## {name}\n" in page, name
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        facts = dict(rf.catalog("techniques", name).iter_rows())
        for field in ("about", "changes", "formula", "source", "pays", "loses"):
            assert facts[field] in section, f"{name}: {field}"
        assert f"{name}" in "".join(BLOCK.findall(section)), f"{name} has no worked example"


# The survey's sections, 2 to 7.
SECTIONS = (
    "2.1",
    "2.2",
    "2.3",
    "3.1",
    "3.2",
    "3.3",
    "3.4",
    "4.1.1",
    "4.1.2",
    "4.1.3",
    "4.2.1",
    "4.2.2",
    "5.1",
    "5.2",
)
SECTIONS += ("5.3", "6.1", "6.2", "6.3", "6.4", "7")


def test_every_section_of_the_survey_has_an_analysis() -> None:
    page = PAGES[1].read_text()
    table = [line for line in page.splitlines() if line.startswith("|")]
    headings = re.findall(r"^## (.*)$", page, flags=re.M)
    for section in SECTIONS:
        assert any(re.search(rf"(^\| |, ){re.escape(section)}[ ,]", line) for line in table), section
    linked = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", "\n".join(table))
    assert [title for title, _ in linked] == list(dict.fromkeys(title for title, _ in linked))
    assert {title for title, _ in linked} == set(headings)
    for title, anchor in linked:
        assert anchor == title.lower().replace(" ", "-")
        section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert BLOCK.findall(section), f"{title} has no analysis"


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    targets = [
        page.parent / target
        for page in pages
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
    ]
    assert len(targets) > 20
    assert [target for target in targets if not target.exists()] == []
