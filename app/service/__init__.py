"""The web service: the API and the page for one index and its model."""
