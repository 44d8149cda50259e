"""Files: downloading, reading without running anything, hashing, and writing whole files only."""
