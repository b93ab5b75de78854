"""products → table products, and stock-alerts where there are few of one."""
