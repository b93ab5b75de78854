"""orders ⋈ payments → order-payments, unpaid-orders: which orders are paid in time, and which are not."""
