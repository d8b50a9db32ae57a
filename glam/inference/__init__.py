"""Inference: decode images, group them into batches, and run the descriptor network."""
