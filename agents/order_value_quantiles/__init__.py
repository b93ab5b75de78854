"""order-values → order-value-quantiles: what a country's orders were worth, day by day."""
