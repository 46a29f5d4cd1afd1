"""The gene network and the gene embeddings made from it.

``network.run_network`` puts STRING's links on the vocabulary, ``graphmae.run_graphmae`` turns it into
one vector per gene. ``backend`` alone imports the graph library.
"""
