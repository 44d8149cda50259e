"""The embedded data set: scenes drawn on demand, with exact masks and no files."""
