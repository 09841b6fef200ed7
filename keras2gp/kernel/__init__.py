"""The kernel: its inputs, its values, how it is saved and loaded, and the same as a tf.Module."""
