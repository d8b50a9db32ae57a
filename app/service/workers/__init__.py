"""Threads behind the routes: they describe uploads in batches, search, and write to the index."""
