"""The page that compares simulated requests with measured ones says what the script finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "docs" / "make_real_servers.py"
    spec = importlib.util.spec_from_file_location("make_real_servers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for file in (module.TRACE, module.MEASURED):
        if not (module.DATA / file).exists():
            pytest.skip(f"the measurements are not beside the repository: {file}")
    return module


def test_the_page_is_what_the_script_writes(script: ModuleType) -> None:
    assert script.page() == (ROOT / "docs" / "real-servers.md").read_text(encoding="utf-8")


def test_the_ideal_roofline_is_faster_than_real_servers_on_average(script: ModuleType) -> None:
    for run in script.RUNS:
        both, simulation = script.compared(run)
        assert simulation.summary["completed"] == both.height == 300
        assert all(ratio < 1 for _, _, ratio, _ in script.errors(both).values()), run
