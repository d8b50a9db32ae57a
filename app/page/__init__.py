"""The files of the search page, served by `glam.app.service`."""
