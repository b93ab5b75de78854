"""orders → table user_order_minutes: each user's orders, minute by minute of event time."""
