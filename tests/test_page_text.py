"""What the text of pages says: numbers that stand in blocks beside them, and sums that are computed again."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf

ROOT = Path(__file__).resolve().parent.parent
SURVEY, TECHNIQUES = (ROOT / "docs" / name for name in ("survey.md", "techniques.md"))
BLOCK = re.compile(r"^```console\n(.*?)^```$", flags=re.M | re.S)
NUMBER = re.compile(r"(?<![\w.:,/^-])\d[\d,]*(?:\.\d+)?(?![\w:])")
# Names of things: figures, tables, sections, lines of a list, papers.
NAMES = re.compile(r"(?:[Ff]igures?|Tables?|lines?|arXiv) \d[\d.]*(?:(?:–|, | and )\d+)*")
PAPER = re.compile(r"\*\(paper:\s([^)]*)\)\*")
CODE = re.compile(r"`([^`]*)`")


def known(blocks: list[str]) -> list[float]:
    """Return the numbers of blocks: commas part values in commands, and thousands in what is shown."""
    found = []
    for line in "\n".join(blocks).splitlines():
        shown = line.replace(",", " ") if line.startswith("$") else re.sub(r",(?=\d{3}\b)", "", line)
        found += [float(number) for number in re.findall(r"\d+(?:\.\d+)?", shown)]
    return found


def says(text: str, among: list[float]) -> bool:
    """Return whether a number is one of those, rounded as it is written."""
    decimals = len(text.partition(".")[2])
    value = float(text.replace(",", ""))
    return any(abs(round(other, decimals) - value) < 1e-9 for other in among)


OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def computed(node: ast.expr) -> float:
    match node:
        case ast.BinOp():
            return float(OPERATIONS[type(node.op)](computed(node.left), computed(node.right)))
        case ast.Constant(value=int() | float() as value):
            return float(value)
    raise ValueError(ast.dump(node))


def sums(text: str) -> Iterator[tuple[str, str]]:
    """Yield the sums of a text and what they are said to come to."""
    for code in CODE.findall(BLOCK.sub("", text)):
        sum_, equals, result = code.rpartition(" = ")
        if equals and re.fullmatch(r"[\d.e*/+() -]+", sum_):
            yield sum_, result


def holds(sum_: str, result: str) -> bool:
    """Return whether a sum comes to what is written, to its last digit."""
    least = 10.0 ** -len(result.partition(".")[2])
    return abs(computed(ast.parse(sum_, mode="eval").body) - float(result)) <= 0.5001 * least


def sections(page: Path) -> list[tuple[str, str]]:
    _, *parts = re.split(r"^## ", page.read_text(), flags=re.M)
    found = [part.partition("\n") for part in parts]
    return [(title, body) for title, _, body in found]


@pytest.mark.parametrize(("title", "body"), sections(SURVEY), ids=lambda text: text.split("\n")[0][:30])
def test_every_number_of_the_survey_stands_in_a_block_beside_it(title: str, body: str) -> None:
    shown = known(BLOCK.findall(body))
    for sum_, result in sums(body):
        assert holds(sum_, result), f"{title}: {sum_} = {result}"
        # Parts of a sum are numbers shown, or sums before it; exponents and small counts are its form.
        for number in re.findall(r"\d+\.\d+|\d{3,}", sum_.replace("1000*", "")):
            assert says(number, shown), f"{title}: {number} of `{sum_}`"
        shown.append(float(result))
    prose = PAPER.sub("", BLOCK.sub("", body))
    text = NAMES.sub("", CODE.sub("", re.sub(r"\]\([^)]*\)", "]", prose)))
    for number in NUMBER.findall(text):
        assert says(number.rstrip(","), shown), f"{title}: {number} stands in no block of the section"


@pytest.mark.parametrize("name", rf.catalog("techniques")["name"].to_list())
def test_the_example_of_every_technique_is_worked_by_hand(name: str) -> None:
    body = dict(sections(TECHNIQUES))[name]
    shown = known(BLOCK.findall(body))
    worked = list(sums(body))
    assert worked, f"{name} has no sum"
    for sum_, result in worked:
        assert holds(sum_, result), f"{name}: {sum_} = {result}"
        used = any(result in other for other, _ in worked)
        assert used or says(result, shown), (
            f"{name}: {result} of `{sum_}` stands in no block and no other sum"
        )
    assert any(says(result, shown) for _, result in worked), (
        f"{name} has no sum whose result stands in its block"
    )


def test_techniques_stand_in_the_order_they_are_applied_in() -> None:
    names = rf.catalog("techniques")["name"].to_list()
    assert [title for title, _ in sections(TECHNIQUES) if title in names] == names


def test_the_check_of_the_text_has_teeth() -> None:
    assert says("12", [12.22])
    assert not says("12.3", [12.22])
    assert NUMBER.findall("of 1,024 tokens, 50.95 % of Llama-2-13b at 2:4 and W4") == ["1,024", "50.95"]
    assert NAMES.sub("", "figures 7–9, 11 and line 31, of 16") == " and , of 16"
    assert computed(ast.parse("1 - (44.2 - 8.19/2)/44.3", mode="eval").body) == pytest.approx(
        0.0947, rel=1e-3
    )
    assert holds("8*(1 - 0.75**8)", "7.2")
    assert not holds("8*(1 - 0.75**8)", "7.3")
    assert list(sums("`a = b`, `1 + 1 = 2`, `-q w4`")) == [("1 + 1", "2")]
