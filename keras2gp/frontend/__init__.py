"""From Keras models to graphs: the only package that knows Keras's layers."""
