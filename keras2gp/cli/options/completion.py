"""The options of completion."""

from __future__ import annotations

import argparse

from keras2gp.cli import arguments
from keras2gp.cli.arguments import Commands
from keras2gp.cli.completion import SHELLS
from keras2gp.cli.loading import Command

__all__ = ["add_completion", "check_completion"]


def add_completion(commands: Commands) -> None:
    """Add `completion`."""
    completion = arguments.add_command(
        commands,
        "completion",
        "print the script that completes commands and options in a shell",
        "Print the completion script of a shell: source <(keras2gp completion bash); for zsh into "
        "a file _keras2gp of $fpath; for fish into ~/.config/fish/completions/keras2gp.fish.",
        check=check_completion,
        run=Command("completion.completion", tensorflow=False),
    )
    completion.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def check_completion(options: argparse.Namespace) -> None:
    """Nothing to check: the parser has compared the shell with its choices."""
