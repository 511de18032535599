"""The rules of the house: rooms, reading order, sizes and what must never be committed.

Every test here fails when it finds nothing to check, so that moving a folder cannot switch a rule off.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CRATES = {
    "core": set(),
    "sim": {"roofline-core"},
    "plan": {"roofline-core", "roofline-sim"},
    "python": {"roofline-core", "roofline-sim", "roofline-plan"},
}
DOOR_ONLY = re.compile(r"\b(pyo3|arrow_array|arrow_schema|arrow|unsafe)\b")
LONGEST_FILE = 600
# Twenty for asking, and two for measurements: what they are and what they say.
MOST_EXPORTS = 22


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    files = [file for file in files if file.is_file()]
    assert len(files) > 20, "no files found: is this a checkout?"
    return files


def tracked_in(folder: str, suffix: str) -> list[Path]:
    files = [file for file in tracked() if file.suffix == suffix and file.is_relative_to(ROOT / folder)]
    assert files, f"no {suffix} files in {folder}"
    return files


def is_test(file: Path) -> bool:
    return bool({"tests", "benches"} & set(file.relative_to(ROOT).parts)) or file.name == "tests.rs"


def rust_code(file: Path) -> str:
    """Return the file without its unit tests and without comments."""
    text = re.split(r"^#\[cfg\(test\)\]\s*\n(?:#\[.*\]\n)*mod ", file.read_text(), maxsplit=1, flags=re.M)[0]
    return re.sub(r"//.*", "", text)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def python_files() -> list[Path]:
    return [
        file for folder in ("python", "tests", "benches", "examples") for file in tracked_in(folder, ".py")
    ]


@pytest.mark.parametrize("crate", CRATES)
def test_a_crate_depends_only_on_rooms_below_it(crate: str) -> None:
    manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())
    tables = [manifest.get(kind, {}) for kind in ("dependencies", "dev-dependencies", "build-dependencies")]
    rooms = {key for table in tables for key in table if key.startswith("roofline-")}
    assert rooms <= CRATES[crate]


def test_every_crate_of_the_workspace_is_a_known_room() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    assert set(workspace["members"]) == {f"rust/{crate}" for crate in CRATES}


@pytest.mark.parametrize("crate", ["core", "sim", "plan"])
def test_only_the_door_knows_python_arrow_and_unsafe(crate: str) -> None:
    manifest = (ROOT / "rust" / crate / "Cargo.toml").read_text()
    assert not DOOR_ONLY.search(manifest)
    guilty = [name(file) for file in tracked_in(f"rust/{crate}", ".rs") if DOOR_ONLY.search(rust_code(file))]
    assert not guilty


def modules_in_reading_order(crate: str) -> list[str]:
    lib = rust_code(ROOT / "rust" / crate / "src" / "lib.rs")
    return re.findall(r"^(?:pub(?:\([a-z]+\))? )?mod (\w+);", lib, flags=re.M)


def imports_from_crate(code: str) -> set[str]:
    """Return the top-level modules named by `crate::x` and `crate::{x, y::z}`."""
    found = set(re.findall(r"\bcrate::(\w+)", code))
    for start in re.finditer(r"\bcrate::\{", code):
        depth, top = 1, ""
        for character in code[start.end() :]:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                break
            top += character if depth == 1 and character != "}" else ""
        found |= {part.strip().split("::")[0] for part in top.split(",") if part.strip()}
    return found


def test_a_module_imports_only_modules_above_it() -> None:
    guilty, checked = [], 0
    for crate in CRATES:
        order = modules_in_reading_order(crate)
        source = ROOT / "rust" / crate / "src"
        for file in tracked_in(f"rust/{crate}/src", ".rs"):
            here = file.relative_to(source).parts[0].removesuffix(".rs")
            if here in {"lib", "tests"}:
                continue
            assert here in order, f"{name(file)} is in no `mod` line of lib.rs"
            below = set(order[order.index(here) + 1 :])
            guilty += [f"{name(file)}: {module}" for module in imports_from_crate(rust_code(file)) & below]
            checked += 1
    assert checked > 10
    assert not guilty


def test_the_order_check_sees_grouped_and_nested_imports() -> None:
    code = "use crate::{a, b::{c, d}, e::f};\nlet x = crate::g::h();"
    assert imports_from_crate(code) == {"a", "b", "e", "g"}


def test_every_rust_file_begins_with_a_sentence() -> None:
    for file in tracked_in("rust", ".rs"):
        header = re.match(r"(?://!.*\n)+", file.read_text())
        assert header, f"{name(file)} must begin with `//! What it is for.`"
        paragraph = re.split(r"\n//!\s*\n", header.group())[0].strip()
        assert paragraph.endswith((".", "?", ":", "`", "…")), f"{name(file)}: {paragraph}"


def test_every_python_file_begins_with_a_sentence() -> None:
    for file in python_files():
        docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert docstring.split("\n\n")[0].endswith((".", "?")), f"{name(file)} must begin with a sentence"


def test_no_file_is_longer_than_600_lines() -> None:
    sources = [file for file in [*tracked_in("rust", ".rs"), *python_files()] if not is_test(file)]
    lengths = {name(file): len(untested(file).splitlines()) for file in sources}
    assert len(lengths) > 20
    assert not {file: lines for file, lines in lengths.items() if lines > LONGEST_FILE}


def untested(file: Path) -> str:
    return re.split(r"^#\[cfg\(test\)\]", file.read_text(), maxsplit=1, flags=re.M)[0]


def test_nothing_unwraps_outside_tests() -> None:
    sources = [file for file in tracked_in("rust", ".rs") if not is_test(file)]
    guilty = [name(file) for file in sources if re.search(r"\.unwrap\(\)", rust_code(file))]
    assert len(sources) > 15
    assert not guilty


def test_the_door_has_at_most_twenty_names() -> None:
    from roofline_fast import _core

    public = [export for export in dir(_core) if not export.startswith("_")]
    assert 0 < len(public) <= MOST_EXPORTS


def modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "roofline_fast" in modules
    return modules


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = modules_after("import roofline_fast")
    assert not modules & {"polars", "numpy", "typer", "pydantic", "rich", "roofline_fast._core"}


def test_help_imports_nothing_heavy() -> None:
    modules = modules_after("from roofline_fast.cli import run\nrun(['--help'])")
    assert "typer" in modules
    assert not modules & {"polars", "numpy", "pydantic", "rich", "altair"}


MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|Users|mnt|opt|tmp)/[\w.]")
URL_HOST = re.compile(r"https?://([^/\s\"'`)>]+)")
REGISTRY = re.compile(r"(?:index-url|extra-index|find-links|replace-with|registry\s*=)")


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    guilty = []
    for file in tracked():
        text = file.read_bytes().decode("utf-8", errors="ignore")
        guilty += [f"{name(file)}: {found.group()}" for found in MACHINE_PATH.finditer(text)]
    assert not guilty


def test_the_build_names_no_private_registry() -> None:
    build = [ROOT / file for file in ("Cargo.toml", "Cargo.lock", "pyproject.toml", "Makefile", ".ci/run")]
    assert all(file.is_file() for file in build)
    for file in build:
        text = file.read_text()
        assert set(URL_HOST.findall(text)) <= {"github.com"}, name(file)
        assert not REGISTRY.search(text), name(file)
