"""users → table users: what is known of each user; a deletion removes it."""
