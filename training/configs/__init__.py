"""Configurations of `glam train`, as YAML: `glam train --config NAME`."""
