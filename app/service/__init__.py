"""The web service: the API and the page, over one open index and one model."""
