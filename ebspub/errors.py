"""The errors a user can meet.

One root, :class:`EbspubError`; each class owns its exit code (``exit_code``), and its message says what
happened, to which job or key, and what to do now. Whatever is not an ``EbspubError`` is a defect of ours.

Exit codes of the command line (README, "Exit codes"):

====  =======================================================================
0     all that was asked for is registered (a job that somebody cancelled is not asked for)
1     internal error: a defect of ours
2     usage or configuration: nothing was touched
3     some jobs failed, the others finished; ``find``: nothing found
4     the state database cannot be used (locked, full, of a newer version)
75    another process is at the work (EX_TEMPFAIL of sysexits.h)
130   interrupted by SIGINT, resumable
143   terminated by SIGTERM, resumable
====  =======================================================================
"""

from __future__ import annotations

from collections.abc import Sequence


class EbspubError(Exception):
    """Root of all errors that are told to the user.

    ``what`` says what happened (and to whom); ``todo`` what the user can do now.
    """

    exit_code: int = 3

    def __init__(self, what: str, *, todo: str = "") -> None:
        self.what = what
        self.todo = todo
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what}\n  {self.todo}" if self.todo else self.what


class UsageError(EbspubError):
    """The command line asks for something that cannot be: no such job, no such build."""

    exit_code = 2


class ConfigError(EbspubError):
    """The configuration is wrong. Raised before anything is touched, with every problem that was found."""

    exit_code = 2

    def __init__(self, what: str, *, todo: str = "", problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  ".join([what, *self.problems]), todo=todo)


class SourceError(EbspubError):
    """A source artefact cannot be found or proved."""

    exit_code = 2


class StoreError(EbspubError):
    """The state database cannot be used: locked, full, damaged, or of a newer version."""

    exit_code = 4


class BusyError(EbspubError):
    """Another living process drives what was asked for."""

    exit_code = 75


class LeaseLostError(EbspubError):
    """This process lost the right to drive a job to another one: it must make no further effect."""

    exit_code = 75


class JobError(EbspubError):
    """A job failed for a reason that trying again does not mend."""

    exit_code = 3

    def __init__(self, what: str, *, todo: str = "", code: str = "", request_id: str = "") -> None:
        self.code = code
        self.request_id = request_id
        super().__init__(what, todo=todo)


class NameTakenError(JobError):
    """The AMI name belongs to an image that is not this build."""


class VerificationError(JobError):
    """What was written is not what the source says: checksum, count, or a file system that is not clean."""


class HostKeyError(JobError):
    """An SSH host did not prove that it is the builder we launched: nothing was sent to it."""


class RemoteError(EbspubError):
    """Somebody did not answer, or the connection broke; trying again may help. ``code``: ``ssh`` for a builder."""

    def __init__(self, what: str, *, todo: str = "", code: str = "ssh") -> None:
        self.code = code
        super().__init__(what, todo=todo)
