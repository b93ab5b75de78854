"""orders → high-value-orders: an event for each order above an amount."""
