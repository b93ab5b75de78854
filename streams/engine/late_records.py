"""Late records: the source record's bytes untouched, with headers that tell for what it was too late."""

from streams.engine.definitions import Flow
from streams.engine.records import Record, Run, TopicPartition
from streams.operators.timed import Late


def record(source: TopicPartition, run: Run, index: int, flow: Flow, late: Late) -> Record:
    """Return the late record of a record of a run, for one window of a flow."""
    headers = {
        "headrace.flow": flow.name,
        "headrace.window": f"{late.start_ms}-{late.end_ms}",
        "headrace.lateness-ms": str(late.by_ms),
        "headrace.topic": source.topic,
        "headrace.partition": str(source.partition),
        "headrace.offset": str(run.offsets[index]),
    }
    return Record(
        run.keys[index],
        run.values[index],
        [(name, text.encode()) for name, text in headers.items()],
    )
