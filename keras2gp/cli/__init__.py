"""The command line: argument parsing, progress, tables, exit codes; no arithmetic."""
