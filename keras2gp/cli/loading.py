"""Late imports: a command's module and the libraries it needs are imported when it is called.

This is the only place of the command line that imports inside a function, so that --help, --version
and every refusal of arguments answer without numpy and TensorFlow.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from keras2gp._util.starting import start_tensorflow
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output

__all__ = ["Command"]


@dataclass(frozen=True)
class Command:
    """A function of keras2gp.cli.commands, by name.

    name:       MODULE.FUNCTION; the function takes the options, the rows and the Output
    rows:       the function of keras2gp.cli.rows that reads the data of this command, None without
                data
    tensorflow: whether the module needs TensorFlow, which takes seconds to start
    """

    name: str
    rows: str | None = None
    tensorflow: bool = True

    def __call__(self, options: argparse.Namespace, out: Output) -> ExitCode:
        """Read the data, start TensorFlow, run the command."""
        # Data comes first: a file that cannot be read is reported without waiting for TensorFlow.
        rows = None if self.rows is None else self._of_rows(self.rows)(options)
        if rows is not None and hasattr(rows, "x"):
            self._of_rows("require_shape_of_model")(rows.x, options)
        if self.tensorflow:
            start_tensorflow()
        code: ExitCode = self.function()(options, rows, out)
        return code

    def function(self) -> Any:
        """The function that runs."""
        module, _, function = self.name.partition(".")
        return getattr(import_module(f"keras2gp.cli.commands.{module}"), function)

    def _of_rows(self, name: str) -> Any:
        return getattr(import_module("keras2gp.cli.rows"), name)
