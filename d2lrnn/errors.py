"""The errors of the library, and the exit codes of the command line.

Every error is a `D2LError` whose message says what is wrong, where, and what to do. The command line prints
that message and ends with exit code 2; a traceback is shown with ``--debug`` only.
"""

from __future__ import annotations

#: Exit codes of the command line: wrong input, an error that is ours, Ctrl-C (as a shell counts it).
WRONG_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 130

#: That of a run whose other workers are lost: to try again may help (EX_TEMPFAIL of sysexits.h).
WORKER_LOST = 75


class D2LError(Exception):
    """The base of all errors that d2lrnn raises on purpose."""


class SpecError(D2LError, ValueError):
    """A specification has a value that is unknown, out of its range, or contradicts another one."""


class KindError(D2LError, TypeError):
    """An argument of another kind than what was asked for: a model in place of a learner, say."""


class ParameterError(D2LError, ValueError):
    """Parameters that do not fit the model: a name, a shape or a value is wrong."""


class TextError(D2LError, ValueError):
    """A text that cannot be read or is too short, or a download with another checksum."""


class PromptError(D2LError, ValueError):
    """A prefix that generation cannot start from."""


class UnknownBackendError(D2LError, ValueError):
    """There is no backend of this name."""


class BackendNotInstalledError(D2LError, ImportError):
    """A backend that is known, but whose framework is not installed here."""


class DeviceError(D2LError, ValueError):
    """There is no such device."""


class PortError(D2LError, ValueError):
    """A recurrent module that cannot be converted, or whose conversion is not proved."""


class ChapterError(D2LError, ValueError):
    """A chapter of the book that cannot be read, or has no code for the tab that was chosen."""


class RunError(D2LError, ValueError):
    """A saved run that cannot be read or written."""


class OccupiedError(RunError):
    """A folder holds another run, which saving this one would replace."""


class BusyError(RunError):
    """Another process is training in the folder of a run."""


class WorkerLostError(D2LError, ConnectionError):
    """Another worker has died, hangs or cannot be reached, and the run cannot go on without it."""


class LeftoverWarning(UserWarning):
    """A checkpoint that was to go cannot be removed, or a history cannot be replaced, and is left."""


class MissingCellError(RunError):
    """A saved run whose cell no package here has: the run is whole, and cannot be opened here."""


class DivergedError(D2LError, ArithmeticError):
    """The loss became NaN or infinite; the learner holds the last good parameters.

    Attributes:
        step: the training step, counted from 1 over the whole run, whose loss was not finite.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def reason_of(error: Exception) -> str:
    """Why a file or an address failed, in the system's words: ``Permission denied``."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):  # urllib wraps the error that a person can act on
        return reason_of(inner)
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__
