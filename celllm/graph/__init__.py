"""The gene network, the gene embeddings made from it, and drugs as graphs."""
