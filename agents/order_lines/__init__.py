"""orders → the repartition topic order-lines: each order's lines, by product."""
