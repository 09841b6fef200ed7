"""The parser of the command line: all commands, in the order of --help."""

from __future__ import annotations

import argparse
import textwrap

from keras2gp._util.version import VERSION
from keras2gp.cli.argument_parser import Parser
from keras2gp.cli.arguments import DATA_SOURCES, MODEL
from keras2gp.cli.exit_codes import MEANINGS
from keras2gp.cli.options.completion import add_completion
from keras2gp.cli.options.convert import add_convert, add_inspect
from keras2gp.cli.options.demo import add_demo
from keras2gp.cli.options.fit import add_fit
from keras2gp.cli.options.gram import add_gram
from keras2gp.cli.options.plot import add_plot
from keras2gp.cli.options.predict import add_evaluate, add_export, add_predict
from keras2gp.cli.options.search import add_search, add_tune
from keras2gp.cli.options.verify import add_verify
from keras2gp.cli.options.xray import add_xray

__all__ = ["build_parser"]

_COMMANDS = (
    *(add_inspect, add_convert, add_verify, add_gram, add_fit, add_evaluate, add_predict),
    *(add_export, add_search, add_tune, add_xray, add_plot, add_demo, add_completion),
)
_SOURCES = (
    "A .json file is that of model.to_json(), the networks of zoo: are the paper's, and sample is "
    "digits in the package."
)
_EXAMPLES = """\

examples:
  keras2gp inspect model.keras
  keras2gp verify model.keras --samples 2000
  keras2gp fit model.keras --data sample --train 2000 --out fitted
  keras2gp evaluate fitted --data sample --test 1000
  keras2gp predict fitted --data images.npz --out predictions.csv

exit codes:
"""


def build_parser() -> Parser:
    """The parser; the defaults `check` and `run` of a subparser are functions of the options."""
    sources = textwrap.fill(f"MODEL is {MODEL}. D is {DATA_SOURCES}. {_SOURCES}", 80)
    codes = "\n".join(f"  {int(code):<5}{meaning}" for code, meaning in MEANINGS.items())
    parser = Parser(
        prog="keras2gp",
        description="The Gaussian process that a Keras model becomes at infinite width.",
        epilog=f"{sources}\n{_EXAMPLES}{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras2gp {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for add_command in _COMMANDS:
        add_command(commands)
    return parser
