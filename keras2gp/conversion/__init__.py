"""From Keras models to graphs: the only package that knows what Keras's layers compute."""
