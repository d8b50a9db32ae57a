"""The command `glam`: a module for each group of commands."""
