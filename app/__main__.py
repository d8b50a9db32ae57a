"""`python -m glam.app` is `glam`, where the command itself is not on the path."""

from glam.app.cli.main import main

main()
