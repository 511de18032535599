"""Files of models and devices that users bring: by path, and from the folder ``$ROOFLINE_FAST_DATA``."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path

from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.json_text import parsed

VARIABLE = "ROOFLINE_FAST_DATA"


def is_path(text: str, *suffixes: str, folder_with: str = "") -> bool:
    """Return whether a text names a file: it exists, or has the suffix of one, or begins like one."""
    if text.endswith(suffixes) or text.startswith(("./", "../", "/", "~")):
        return True
    path = Path(text)
    try:
        return path.is_file() or (bool(folder_with) and (path / folder_with).is_file())
    except (OSError, ValueError):  # longer than a name of a file may be, or with a NUL
        return False


def folder(kind: str) -> Path | None:
    """Return the user's own folder of ``hardware`` or ``models``, if the variable is set."""
    root = os.environ.get(VARIABLE)
    if not root:
        return None
    if not Path(root).is_dir():
        raise SpecError(f"${VARIABLE} must be a folder: {root}", field=f"${VARIABLE}", value=root)
    return Path(root) / kind


def files(kind: str, suffixes: Iterable[str]) -> dict[str, Path]:
    """Return the user's own files of a kind by name, in alphabetical order."""
    place = folder(kind)
    if place is None or not place.is_dir():
        return {}
    return {path.stem: path for path in sorted(place.iterdir()) if path.suffix in tuple(suffixes)}


def find(kind: str, name: str, suffixes: Iterable[str]) -> Path | None:
    """Return the user's own file of that name, if there is one."""
    return files(kind, suffixes).get(name.lower())


def model_file(path: Path) -> tuple[str, str, str]:
    """Return name, title and ``config.json`` text of a model's file, JSON as published or TOML as shipped."""
    path = path.expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "give a `config.json`, its folder, or a name that `roofline-fast catalog models` lists"
        message = f"a model's file must exist: {path}"
        raise MissingFileError(message, field="model", value=str(path), hint=hint) from None
    except OSError as why:
        message = f"{path} must be a file that can be read: {why.strerror}"
        raise SpecError(message, field="model", value=str(path)) from None
    except UnicodeDecodeError as why:
        hint = "give the model's own `config.json`, as published beside its weights"
        raise SpecError(f"{path} must be text: {why.reason}", field=str(path), hint=hint) from None
    if path.suffix != ".toml":
        return str(path), str(path), _with_quantization(path, text)
    try:
        table = tomllib.loads(text)
        config = table["config"]
    except tomllib.TOMLDecodeError as why:
        raise SpecError(f"{path} must be TOML: {why}", field=str(path)) from None
    except KeyError:
        hint = "write the keys of the model's `config.json` under `[config]`"
        raise SpecError(f"{path} must have a table [config]", field=str(path), hint=hint) from None
    name = str(table.get("name", path.stem))
    return name, str(table.get("title", name)), json.dumps(config)


def _with_quantization(config: Path, text: str) -> str:
    """Return a ``config.json`` with what ModelOpt left in ``hf_quant_config.json`` beside it."""
    beside = config.with_name("hf_quant_config.json")
    if config.name != "config.json" or not beside.is_file():
        return text
    try:
        keys = parsed(text)
    except ValueError:
        return text  # refused where it is understood, with a better message
    if not isinstance(keys, dict) or "quantization_config" in keys:
        return text
    try:
        quantization = parsed(beside.read_text(encoding="utf-8"))
    except ValueError as why:
        hint = "it is what ModelOpt writes beside `config.json`; remove it to read the model as not quantized"
        raise SpecError(f"{beside} must be JSON: {why}", field=str(beside), hint=hint) from None
    if not isinstance(quantization, dict):
        raise SpecError(f"{beside} must be an object: {type(quantization).__name__}", field=str(beside))
    return json.dumps({**keys, "quantization_config": {"quant_method": "modelopt", **quantization}})
