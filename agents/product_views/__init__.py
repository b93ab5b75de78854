"""products → table product_views: how often each product was looked at, hour by hour of event time."""
