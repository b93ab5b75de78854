"""orders → order-stats: each user's orders in windows of five minutes, one each minute."""
