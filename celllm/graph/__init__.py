"""The gene network and the gene embeddings made from it.

``network.run_network`` makes the network, ``graphmae.run_graphmae`` the embeddings,
``link_prediction.run_link_prediction`` tests them. What the rest of the package needs of the result is here,
and imports no graph library.
"""

from celllm.graph.embeddings import load_gene_embeddings, save_gene_embeddings

__all__ = ["load_gene_embeddings", "save_gene_embeddings"]
