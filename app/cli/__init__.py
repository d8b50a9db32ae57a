"""The command line, `glam`: one module per command or group of commands."""
