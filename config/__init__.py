"""What the outside decides: settings and logging."""
