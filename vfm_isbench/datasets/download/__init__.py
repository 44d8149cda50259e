"""Downloads of the data sets: where they come from, fetched, unpacked and verified."""
