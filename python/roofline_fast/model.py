"""Models as users name them: by catalogue name, Hugging Face id, ``config.json`` or dictionary."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from roofline_fast import _core, user_files
from roofline_fast.errors import SpecError


class Model:
    """A language model, an encoder, or a diffusion transformer.

    Parameters
    ----------
    name : str
        A catalogue name (``llama-3.1-8b``) or a Hugging Face id (``meta-llama/Llama-3.1-8B-Instruct``). A
        format at the end of an id of which no file is shipped (``RedHatAI/Qwen3-14B-FP8-dynamic``) is that
        of the weights; `notes` say what was assumed. The
        folder that ``$ROOFLINE_FAST_DATA`` names is searched first (``models/*.json`` and ``*.toml``).

    Raises
    ------
    UnknownNameError
        Nothing is known under the name; the hint holds the nearest three.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> model = rf.Model("meta-llama/Llama-3.1-8B-Instruct")
    >>> model.name, model.parameters
    ('llama-3.1-8b', 8030261248)
    """

    # How its name was understood, where the catalogue's says more than was asked.
    note: str | None = None

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise _refused(name, "a name")
        own = user_files.find("models", name, (".json", ".toml"))
        if own is not None:
            self._name, self._title, self._text = user_files.model_file(own)
            return
        self.compiled = _core.Model(name)
        told = any(note.startswith(f"`{name}` taken as") for note in self.compiled.notes)
        self.note = None if told else _taken_as(name, self.compiled.name)
        self._name, self._title, self._text = self.compiled.name, self.compiled.title, ""

    @classmethod
    def from_config(cls, config: str | PathLike[str] | Mapping[str, Any]) -> Model:
        """Read a Hugging Face configuration.

        Parameters
        ----------
        config : path or mapping
            A ``config.json``, the folder that holds it, or its content.

        Returns
        -------
        Model
            What the configuration describes. A configuration that is not understood is refused when it is
            first used, not here: ``compat="llm-viewer"`` understands others.

        Raises
        ------
        SpecError
            A file that is not there, or cannot be read.

        Examples
        --------
        >>> import roofline_fast as rf
        >>> rf.Model.from_config(rf.Model("llama-2-7b").config).parameters
        6738415616
        """
        model = cls.__new__(cls)
        if isinstance(config, Mapping):
            model._name = model._title = "config.json"
            model._text = json.dumps(config, default=_plain)
            return model
        if not isinstance(config, str | PathLike):
            raise _refused(config, "a `config.json`, its folder or its content")
        if "\0" in str(config):
            raise _refused(config, "a name of a file")
        path = Path(config)
        file = path / "config.json" if os.path.isdir(path) else path
        model._name, model._title, model._text = user_files.model_file(file)
        return model

    @cached_property
    def compiled(self) -> _core.Model:
        """The model as groups of equal layers: raises where its configuration is not understood."""
        if not self._text:
            return _core.Model(self._name)
        return _core.Model.from_json(self._name, self._text)

    @property
    def config_text(self) -> str:
        """The configuration as the text of a ``config.json``."""
        return self._text or _core.Model.shipped_config(self._name)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration it was read from."""
        config: dict[str, Any] = json.loads(self.config_text)
        return config

    @property
    def source(self) -> str:
        """Where its figures come from: the shipped file's source, or the file it was read from."""
        return self._name if self._text else _core.Model.shipped_source(self._name)

    @property
    def name(self) -> str:
        """Catalogue name, or the file it was read from."""
        return self._name

    @property
    def title(self) -> str:
        """As printed on screens (``Llama-3.1-8B``)."""
        return self._title if self._title != self._name else self.compiled.title

    @property
    def family(self) -> str:
        """``model_type`` of its configuration."""
        return self.compiled.family

    @property
    def parameters(self) -> int:
        """Every parameter of the decoder.

        Apart are the vision tower, whose parameters are `vision_parameters`, and the layers that predict
        several tokens.
        """
        return self.compiled.parameters

    @property
    def active_parameters(self) -> int:
        """The parameters a token meets: all but the routed experts it does not visit."""
        return self.compiled.active_parameters

    @property
    def vision_parameters(self) -> int:
        """Every parameter of the vision tower; 0 where there is none."""
        return self.compiled.vision_parameters

    @property
    def layers(self) -> int:
        """How many layers there are, of any kind."""
        return self.compiled.layers

    @property
    def max_context(self) -> int | None:
        """Longest context it was made for, tokens."""
        return self.compiled.max_context

    @property
    def dtype(self) -> str:
        """Format of everything that is not quantized."""
        return self.compiled.dtype

    @property
    def quantization(self) -> str | None:
        """Name of the checkpoint's quantization."""
        return self.compiled.quantization

    @property
    def generates(self) -> bool:
        """Whether it makes tokens one by one (encoders and diffusion transformers do not)."""
        return self.compiled.generates

    @property
    def notes(self) -> list[str]:
        """Sentences about what was assumed or left out in reading it, its name included."""
        return ([self.note] if self.note else []) + self.compiled.notes

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the configuration, not what was made of it."""
        return {name: value for name, value in self.__dict__.items() if name != "compiled"}

    def __repr__(self) -> str:
        return f"Model({self._name!r})"


def find_model(model: Any) -> Model:
    """Return the model that a name, a path (which wins over a name), a dictionary or a model means."""
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | PathLike | Mapping):
        raise _refused(model, "a name, a path, a configuration or a Model")
    if not isinstance(model, str) or user_files.is_path(model, ".json", ".toml", folder_with="config.json"):
        return Model.from_config(model)
    return Model(model)


def precision_note(model: Model, weights_format: str, *, asked: bool) -> str | None:
    """Return that a checkpoint of 32 bits runs in fewer, unless the user asked for that."""
    if asked or model.dtype != "fp32" or model.quantization or weights_format == "fp32":
        return None
    return f"{model.title} is stored in fp32, run in {weights_format}; -q fp32 (quantization=) to keep it"


def _taken_as(asked: str, name: str) -> str | None:
    """Return that a name was taken as one that says more: tuning and spelling say nothing of the cost."""
    words = re.split(r"[\s_-]+", asked.strip().rstrip("/").rpartition("/")[2].lower())
    return None if set(name.split("-")) <= set(words) else f"`{asked}` taken as `{name}`"


def _refused(value: Any, accepted: str) -> SpecError:
    hint = "for example `llama-3.1-8b`; `roofline-fast catalog models` lists every model"
    return SpecError(f"model must be {accepted}: {value!r}", field="model", value=repr(value), hint=hint)


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python: dictionaries made in notebooks hold them."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(
        f"a configuration holds numbers, texts, lists and dictionaries, not {type(value).__name__}"
    )
