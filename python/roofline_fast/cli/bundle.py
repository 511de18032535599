"""Flags that several commands share, and that reach a command together as one mapping."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_flags(argument: str, flags: Mapping[str, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the flags ``{word: annotation}``; they reach it as the mapping called `argument`.

    A flag that is not given is ``None``, or the default beside its annotation: ``{word: (annotation, 1)}``. The flags
    stand where the command has `argument`.
    """
    pairs = {word: flag if isinstance(flag, tuple) else (flag, None) for word, flag in flags.items()}

    def decorated(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True)
        only = inspect.Parameter.KEYWORD_ONLY
        parameters = []
        for name, parameter in own.parameters.items():
            if name != argument:
                parameters.append(parameter.replace(kind=only))
                continue
            parameters += [
                inspect.Parameter(word, only, default=default, annotation=annotation)
                for word, (annotation, default) in pairs.items()
            ]

        @functools.wraps(command)
        def called(**given: Any) -> int:
            together = {word: given.pop(word) for word in flags}
            return command(**{argument: together}, **given)

        signature = own.replace(parameters=parameters)
        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__annotations__ = {entry.name: entry.annotation for entry in parameters}
        return called

    return decorated
