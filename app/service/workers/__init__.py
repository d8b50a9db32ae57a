"""Worker threads: they compute descriptors, search, and write to the index, in batches."""
