"""orders → vip-upgrades: counts each user's orders, with an event when they have made enough."""
