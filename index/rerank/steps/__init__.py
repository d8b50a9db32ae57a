"""The re-ranking steps, one module per algorithm."""
