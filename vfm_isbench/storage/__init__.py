"""Files: fetched, read without running anything, hashed, and written so that none is ever half there."""
