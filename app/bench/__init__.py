"""Measurements that users run on their own machine, as `glam bench`; those of the project are in `benchmarks/`."""
