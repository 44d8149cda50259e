"""Fakes for tests of this library and of packages that extend it."""
