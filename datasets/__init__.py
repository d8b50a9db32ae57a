"""Landmark images: where they are, what they show, and how they are drawn for training."""
