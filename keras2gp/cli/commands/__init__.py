"""The commands, one family a file; each takes the options, the rows of its data and the Output."""
