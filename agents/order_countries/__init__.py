"""orders and users → the repartition topic order-values: each order's value, by its user's country then."""
