"""The options of the commands and their checks, one family a file, as in `commands/`.

`add_NAME` adds a command to the parser, and `check_NAME` checks its options. Nothing heavy is
imported: --help answers without numpy and TensorFlow.
"""
