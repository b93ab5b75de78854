"""What moves batches, state and commits. Knows no domain."""
