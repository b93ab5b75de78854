"""order-lines → product-sales: what was sold of each product in windows of five minutes, one each minute.

And product-revenues, of which top_products is made.
"""
