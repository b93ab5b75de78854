"""The web view of a worker: its tables and its part of the group, as JSON and as a page."""
