"""Downloads of data sets: sources, fetching, unpacking, verifying and recording."""
