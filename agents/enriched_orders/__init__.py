"""orders, joined with table users → enriched-orders: each order with its user as of its turn."""
