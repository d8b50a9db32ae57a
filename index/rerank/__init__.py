"""Re-ranking of search results: its steps, and chains of them."""
