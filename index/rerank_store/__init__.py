"""The folder `rerank/` of an index, with the local features and the kNN graph that re-ranking uses."""
