"""orders → spending-spikes: users who spend much, or order often, within an hour."""
