"""Bundled YAML configurations of `glam train`, selected with `--config NAME`."""
