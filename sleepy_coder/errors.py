"""The error tree. Catch `SleepyError` to catch everything this package raises on purpose.

SleepyError                 always carries what to do about it
├── ConfigError             a setting is missing, unknown or out of bounds
├── SandboxUnavailable      no sandbox level works here; model-written code is not run
├── InfraError              the machine failed, not the model (missing toolchain, full disk, ...)
│   ├── ContextTooLong      the conversation does not fit the model's context: nothing was asked, nothing failed
│   └── TrainingKilled      the training child was killed by somebody else: a machine without memory does that
│       └── ProcessesLost   one of several training processes is gone, cannot be reached, or never came
├── ServerError             the model server answered with an error
│   ├── ServerUnreachable   nobody answered
│   │   └── AnswerTimedOut  somebody listens, and did not answer in time
│   └── ModelNotFound       404: no such model or adapter
├── SecretFound             a text holds a secret that cannot be taken out of it; the text is not kept
├── LeakError               a training mix holds a frozen task or a near-duplicate of one
├── AdapterError            an adapter folder is not what its manifest says, or cannot be read
├── StoreError              the store is locked, corrupt or of a newer version
│   ├── StoreDamaged        a page of it is not what was written there
│   └── AlreadyRuns         another process is at it in this home
├── JournalError            an unfinished night began under another version, or on another frozen set: it cannot go on
├── TrainingError           the training child ended without an adapter
├── TrainingPaused          training stopped at a checkpoint because it was asked to
├── NightPaused             a night stopped before its end because it was asked to; its work is kept
├── HubError                the Hugging Face Hub refused, or could not be reached
├── EpisodeFormatError      an episode file is none of the formats that are known
└── TaskFormatError         a task file cannot be read; names file, line and reason
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SleepyError(Exception):
    """Base of every error raised on purpose.

    `message` says what happened; `remedy` says what the user can do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}. {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class ConfigError(SleepyError):
    """A setting is missing, unknown or out of bounds."""


class SandboxUnavailable(SleepyError):
    """No sandbox level works on this machine."""


class InfraError(SleepyError):
    """The machine failed, not the model."""


class ContextTooLong(InfraError):
    """A conversation is longer than the model's context."""


class TrainingKilled(InfraError):
    """The training child was killed from outside; the same call goes on from its last checkpoint."""


class ProcessesLost(TrainingKilled):
    """The processes of a training did not meet, or lost each other: a machine or the network between them is gone."""


class ServerError(SleepyError):
    """The model server answered with an error status."""

    def __init__(self, message: str, remedy: str = "", status: int = 0) -> None:
        super().__init__(message, remedy)
        self.status = status


class ServerUnreachable(ServerError):
    """Nobody answered at the model server's URL."""


class AnswerTimedOut(ServerUnreachable):
    """The model server took the request and did not answer in time."""


class ModelNotFound(ServerError):
    """The server does not know this model or adapter (404)."""


class SecretFound(SleepyError):
    """A text holds a secret that cannot be taken out of it (a private key), so the text must not be kept."""


class LeakError(SleepyError):
    """A training mix holds a frozen task or a near-duplicate of one."""


class AdapterError(SleepyError):
    """An adapter folder is not what its manifest says, or cannot be read."""


class StoreError(SleepyError):
    """The store is locked, corrupt or of a newer version."""


class StoreDamaged(StoreError):
    """A page of the store is not what was written there."""


class AlreadyRuns(StoreError):
    """Another process is at it in this home."""


class JournalError(SleepyError):
    """What the journal of an unfinished night holds is of another version of sleepy-coder, or of another frozen set."""


class TrainingError(SleepyError):
    """The training child ended without an adapter."""


class TrainingPaused(SleepyError):
    """Training stopped at a checkpoint because it was asked to; the same call goes on from there."""


class NightPaused(SleepyError):
    """A night stopped before its end because it was asked to; the next one goes on with it."""


class HubError(SleepyError):
    """The Hugging Face Hub refused an upload or could not be reached."""


class EpisodeFormatError(SleepyError):
    """An episode file, or an entry of it, is none of the formats that are known."""


class TaskFormatError(SleepyError):
    """A task file cannot be read."""


def problems(error: ValidationError, whole: str = "") -> list[str]:
    """A text for each wrong field, without its value; `whole` names what is wrong as a whole."""
    return [f"{'.'.join(map(str, found['loc'])) or whole}: {found['msg']}" for found in error.errors()]
