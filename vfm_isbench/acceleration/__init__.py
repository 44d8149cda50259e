"""The same numbers sooner: speed settings, the probe with a cache, the head in strips, features kept on disk."""
