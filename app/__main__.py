"""`python -m glam.app`: the command `glam` where it is not on the PATH."""

from glam.app.cli.main import main

main()
