"""The folder `rerank/` of an index: local features and nearest neighbors that re-ranking reads."""
