"""Interruptions of a small training at random moments; see `tests.training.interruptions.__main__`."""
