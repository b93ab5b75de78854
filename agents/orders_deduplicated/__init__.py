"""orders → orders-deduplicated: the same events, each id once within an hour."""
