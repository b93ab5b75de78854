"""The engine's settings: plain values, so that the engine knows no environment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A record batch's header (61 bytes) and the largest record header and lengths within it.
RECORD_OVERHEAD_BYTES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What one worker's engine is told. Times in ms or s as named."""

    application_id: str
    data_dir: Path
    exactly_once: bool = True
    commit_interval_ms: int = 100
    max_ahead_ms: int = 3_600_000
    rebalance_timeout_ms: int = 60_000
    max_record_bytes: int = 1_048_588
    idle_timeout_ms: int | None = None
    """After so long without input a task's timed tables go by the clock; None: they wait for events."""
    web_address: str = ""
    reset: bool = False
    """Whether a task goes on with what an input holds where its committed offset is of no use any more."""
    standby_replicas: int = 0
    """By how many other workers each task is followed, if there are so many."""

    lock_timeout_s: float = 10.0
    """How long a task's folder may stay locked by its former owner before the start fails."""
    commit_timeout_s: float = 30.0
    """When a commit counts as failed. Below Kafka's transaction time-out of 60 s, so that ours ends first."""
    take_timeout_s: float = 60.0
    """When Kafka's silence counts as a failed try to take a task; restoring is not bounded by it."""
    global_restore_timeout_s: float = 300.0
    """When a global table's changelog that gives nothing, and has more, stops the worker."""
    max_batch_records: int = 1_000
    max_epoch_records: int = 200_000
    max_epoch_output_bytes: int = 32 << 20
    """Of derived events and dead letters: they stay in memory until their transaction has ended."""
    max_stretched_interval_ms: int = 1_000
    fences_tolerated: int = 5
    purge_interval_s: float = 30.0
    """How long what is processed of a repartition topic lies there, about."""
    state_lifetime_ms: int = 86_400_000
    """Local state older than this may hold rows whose tombstones are gone (delete.retention.ms)."""

    def revoke_timeout_s(self) -> float:
        """Return how long the last commit before a hand-over may take."""
        return self.rebalance_timeout_ms / 5_000
