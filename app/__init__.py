"""The way in: the command line, the web service and its page."""
