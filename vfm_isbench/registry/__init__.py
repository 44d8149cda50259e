"""Names to entries: the registry of built-in parts, and parts that installed packages add."""
