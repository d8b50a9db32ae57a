"""The operations on an index: build, sync, verify, compact, precompute, import descriptors, find near-duplicates."""
