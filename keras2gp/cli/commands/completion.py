"""completion: the script that completes the command in a shell."""

from __future__ import annotations

import argparse

from keras2gp.cli.completion import completion_script
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.parser import build_parser

__all__ = ["completion"]


def completion(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Print the script of a shell."""
    script = completion_script(options.shell, build_parser())
    if options.json:
        out.document({"shell": options.shell, "script": script})
    else:
        out.raw(script)
    return ExitCode.FINE
