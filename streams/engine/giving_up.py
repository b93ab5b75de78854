"""What happens to a task that cannot go on as it is, and which errors taking it anew can mend."""

from typing import Final

from streams.engine.errors import (
    CommitFailedError,
    FencedError,
    GlobalTableDamagedError,
    KafkaUnavailableError,
    StoreCorruptError,
    UnwritableRowError,
)
from streams.engine.failpoints import InjectedFailureError
from streams.engine.task import Task

# What taking the task anew can mend. All else stops the worker.
RETRIED: Final = (
    FencedError,
    CommitFailedError,
    KafkaUnavailableError,
    TimeoutError,
    InjectedFailureError,
    GlobalTableDamagedError,
    StoreCorruptError,
    UnwritableRowError,
)


def give_up(task: Task, error: BaseException) -> None:
    """Drop what a task has not committed, and what the error says is of no use any more."""
    if task.commit is not None:  # a batch failed beside it: its end would be of a former life
        task.commit.cancel()
        task.commit = None
    task.forget()
    if isinstance(error, StoreCorruptError):
        task.discard_store()
    if isinstance(error, UnwritableRowError):
        task.careful = True


def text_of(error: BaseException) -> str:
    """Return what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__
