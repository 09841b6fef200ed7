"""The commands of the command line, one family in each module."""
