"""What is known by name, shipped and brought by the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf

SCREENS = {
    "catalog-hardware": "catalog hardware",
    "catalog-hardware-h100": "catalog hardware h100",
    "catalog-models": "catalog models",
    "catalog-models-mixtral": "catalog models mixtral-8x7b",
    "catalog": "catalog --help",
}
LLAMA = rf.Model("llama-2-7b").config


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, snapshot: Callable[[str, str], None]) -> None:
    snapshot(name, SCREENS[name])


def test_every_listed_device_and_model_can_be_named() -> None:
    assert [rf.Hardware(name).name for name in rf.catalog("hardware")["name"]]
    for row in rf.catalog("models").iter_rows(named=True):
        model = rf.Model(row["name"])
        assert (model.parameters, model.layers) == (row["parameters"], row["layers"])
        assert rf.Model.from_config(model.config).parameters == model.parameters


def test_a_model_may_be_a_name_an_id_a_file_a_folder_or_a_dictionary(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    spellings = [
        "llama-2-7b",
        "meta-llama/Llama-2-7b-chat-hf",
        tmp_path,
        str(tmp_path / "config.json"),
        LLAMA,
    ]
    steps = [rf.analyze(spelling, "h100-sxm").step_s for spelling in [*spellings, rf.Model("llama-2-7b")]]
    assert len(set(steps)) == 1


def test_a_folder_of_the_users_own_is_searched_before_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.json").write_text(json.dumps(LLAMA))
    (tmp_path / "models" / "llama-3.1-8b.json").write_text(json.dumps(LLAMA))
    monkeypatch.setenv("ROOFLINE_FAST_DATA", str(tmp_path))
    assert rf.Model("mine").parameters == rf.Model("llama-3.1-8b").parameters == 6_738_415_616
    assert "and in $ROOFLINE_FAST_DATA: llama-3.1-8b, mine\n" in command("catalog models").err
    monkeypatch.setenv("ROOFLINE_FAST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(rf.SpecError, match=r"ROOFLINE_FAST_DATA must be a folder: .*nowhere"):
        rf.Model("mine")


def test_a_device_file_of_the_catalogue_can_be_brought_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(__file__).parent.parent / "rust" / "core" / "data" / "hardware" / "h100-sxm.toml"
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "ours.toml").write_text(shipped.read_text())
    (tmp_path / "models").mkdir()
    llama = shipped.parent.parent / "models" / "llama-2-7b.toml"
    (tmp_path / "models" / "theirs.toml").write_text(llama.read_text())
    monkeypatch.setenv("ROOFLINE_FAST_DATA", str(tmp_path))
    step = rf.analyze("theirs", "ours")
    assert step.step_s == rf.analyze("llama-2-7b", "h100-sxm").step_s
    assert step.model.title == "Llama-2-7B"
