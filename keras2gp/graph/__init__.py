"""The vocabulary between Keras and TensorFlow: ops, graphs, and what follows from them alone."""

from keras2gp.graph.graph import Graph, GraphBuilder, Node
from keras2gp.graph.variances import LayerVariances

__all__ = ["Graph", "GraphBuilder", "LayerVariances", "Node"]
