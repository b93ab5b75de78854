"""The engine under faults, as worker processes on a real Kafka."""
