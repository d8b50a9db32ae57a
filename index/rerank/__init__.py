"""Re-ranking of search results by chains of steps."""
