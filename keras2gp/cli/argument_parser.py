"""A parser that raises instead of exiting, says what was meant, and describes its own options."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from keras2gp._util.text import did_you_mean
from keras2gp.cli import option_values
from keras2gp.cli.exit_codes import UsageError

__all__ = ["IN_PLACE", "Option", "Parser", "meant"]

IN_PLACE = {
    "images": ("train", "rows", "test", "limit"),
    "limit": ("train", "rows", "test", "images"),
    "rows": ("train", "test", "limit", "images"),
    "seed": ("shuffle",),
    "test": ("validation", "limit", "images"),
    "train": ("rows",),
    "validation": ("test",),
}
"""Options of some commands, and those that have their place in others; the first counts."""
_ALIKE = 0.7
"""The share of letters in common, by difflib, from which a word may be an option misspelt."""
_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


@dataclass(frozen=True)
class Option:
    """An option or a positional argument of a command.

    Attributes:
        names: such as ("--train",); () for a positional argument.
        name: without dashes, such as "train"; of a positional argument its own.
        help: what it is, on one line.
        choices: the words that it may be; () for any.
        is_flag: whether it takes no value.
        may_be_bare: whether its value may be left out.
        repeats: whether it may be given several times.
        is_path: whether its value names a file, a folder or data.
    """

    names: tuple[str, ...]
    name: str
    help: str
    choices: tuple[str, ...]
    is_flag: bool
    may_be_bare: bool
    repeats: bool
    is_path: bool


def meant(unknown: str, known: Collection[str], command: str) -> str:
    """A sentence, after a space, on an option that a command does not have; empty without a guess.

    Args:
        unknown: the option, with its dashes or without.
        known: the options of the command, without dashes.
        command: its name, for the sentence.
    """
    name = unknown.lstrip("-")
    dashes, name = unknown[: -len(name)] if name else "", name.replace("_", "-")
    other = next((entry for entry in IN_PLACE.get(name, ()) if entry in known), None)
    if other is not None and name not in known:
        return f" {command} takes {dashes}{other} in the place of {unknown}."
    others = [entry for entry in known if entry != name]
    begun = [entry for entry in others if name and entry.startswith(f"{name}-")]
    if begun:
        return f" Did you mean {dashes}{begun[0]}?"
    return did_you_mean(name, others, alike=_ALIKE, before=dashes)


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that --json gets its document for a usage error too."""

    _given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has to say, with the word that was probably meant."""
        hint = ""
        if found := _CHOICE.search(message):
            hint = did_you_mean(found[1], re.findall(r"[\w.-]+", found[2]))
        elif message.startswith(("the following arguments are required", "unrecognized")):
            hint = self._meant(message)
        raise UsageError(message + (f".{hint}" if hint else ""), self.prog)

    def _meant(self, message: str) -> str:
        """The option that the first unknown one was meant to be; it is named if it is not yet."""
        known = self._option_string_actions
        words = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        unknown = next((word for word in words if word not in known), None)
        if unknown is None:
            return ""
        for action in self._actions:
            if not action.option_strings and f"--{action.dest}" == unknown:
                return f" {self.prog} takes {action.metavar or action.dest} without {unknown}."
        hint = meant(unknown, [name.lstrip("-") for name in known], self.prog)
        return f"{hint[:-1]} by {unknown}?" if hint and unknown not in message + hint else hint

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; an unknown option is refused by the command that does not know it."""
        self._given = list(sys.argv[1:] if args is None else args)
        parsed, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed, rest

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse would swallow the error of a full disk or a closed pipe.
        (file or sys.stdout).write(message)

    def commands(self) -> dict[str, Parser]:
        """The commands of this parser by name; none of a command itself."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 (argparse has no other)
                return dict(action.choices)
        return {}

    def options(self) -> list[Option]:
        """The options and positional arguments of a command, in their order."""
        kinds = (argparse._SubParsersAction, argparse._HelpAction)  # noqa: SLF001
        return [_described(a) for a in self._actions if not isinstance(a, kinds)]


def _described(action: argparse.Action) -> Option:
    names = tuple(action.option_strings)
    return Option(
        names=names,
        name=names[-1].removeprefix("--no-").lstrip("-") if names else action.dest,
        help=" ".join((action.help or "").replace("%%", "%").split()),
        choices=tuple(map(str, action.choices or ())),
        is_flag=action.nargs == 0,
        may_be_bare=action.nargs == "?",
        repeats=isinstance(action, argparse._AppendAction),  # noqa: SLF001
        is_path=action.type in (option_values.path, option_values.source),
    )
