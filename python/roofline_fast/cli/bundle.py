"""Flags that several commands share, and that reach a command together as one mapping."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_flags(argument: str, flags: Mapping[str, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the flags ``{word: annotation}``; they reach it as the mapping called `argument`.

    A flag that is not given is ``None``. The flags stand where the command has `argument`.
    """

    def decorated(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True)
        only = inspect.Parameter.KEYWORD_ONLY
        parameters = []
        for name, parameter in own.parameters.items():
            if name != argument:
                parameters.append(parameter.replace(kind=only))
                continue
            parameters += [
                inspect.Parameter(word, only, default=None, annotation=annotation)
                for word, annotation in flags.items()
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
