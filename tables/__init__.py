"""The tables: what the flows keep."""
