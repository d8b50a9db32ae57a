"""Describing images with a model: decoding, batching, and what to do with files that cannot be read."""
