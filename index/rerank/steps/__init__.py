"""The steps of re-ranking, an algorithm a module."""
