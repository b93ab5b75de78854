"""product-revenues → top-products: which products of a window earned most."""
