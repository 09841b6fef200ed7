"""The kernel of a model: inputs, values, saving and loading, and the kernel as a tf.Module."""
