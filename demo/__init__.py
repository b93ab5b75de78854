"""Life-like orders, and an independent check of what became of them."""
