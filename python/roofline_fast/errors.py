"""What can go wrong, as exceptions that say what must hold, what was, and what to do about it."""


class RooflineError(Exception):
    """Every error of this library.

    Attributes
    ----------
    field : str
        What it is about, as the user wrote it (``layout.tp``); empty where nothing can be named.
    value : str
        The offending value.
    hint : str
        What to do about it; empty where nothing better can be said.
    """

    def __init__(self, message: str, *, field: str = "", value: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.value = value
        self.hint = hint


class SpecError(RooflineError, ValueError):
    """A value breaks a rule of its field."""


class MissingFileError(SpecError, FileNotFoundError):
    """A file that was named is not there."""


class UnknownNameError(RooflineError, LookupError):
    """Nothing is known under this name; the hint holds the nearest ones."""


class DoesNotFitError(RooflineError):
    """A deployment needs more memory than it is given."""


class TraceError(RooflineError, ValueError):
    """A trace breaks a rule.

    Attributes
    ----------
    file : str
        The file as the user named it.
    line : int
        The line, counted from 1; 0 where the whole file is meant.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        value: str = "",
        hint: str = "",
        file: str = "",
        line: int = 0,
    ) -> None:
        super().__init__(message, field=field, value=value, hint=hint)
        self.file = file
        self.line = line


class InternalError(RooflineError):
    """The library broke one of its own rules: please report it."""
