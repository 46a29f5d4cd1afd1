"""The gene network and the gene embeddings made from it.

The three steps, each one command: ``network.run_network`` puts STRING's links on the vocabulary,
``graphmae.run_graphmae`` turns the network into one vector per gene, ``link_prediction.run_link_prediction``
tests these vectors on links that their training has not seen. ``backend`` alone imports the graph library.
"""
