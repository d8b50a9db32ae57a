"""Work on a whole index: build, sync, verify, compact, precompute, import, near duplicates."""
