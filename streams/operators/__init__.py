"""Pure operators: event time, windows, joins. No I/O, no clock, no engine."""
