"""Registries of built-in parts, and the plugins of installed packages."""
