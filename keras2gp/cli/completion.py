"""Completion scripts of shells, made from the parsers, so that they know what a command takes."""

from __future__ import annotations

from collections.abc import Iterator

from keras2gp.cli.argument_parser import Option, Parser

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str, parser: Parser) -> str:
    """The script that completes commands, options and their choices; files for everything else.

    Args:
        shell: one of SHELLS.
        parser: the whole parser.

    Returns:
        The script.
    """
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser)
    told = f"# Completion of keras2gp for {shell}; keras2gp completion {shell}"
    # zsh reads the first line alone of a file in a directory of $fpath.
    first = ["#compdef keras2gp"] if shell == "zsh" else []
    return "\n".join([*first, told, *lines, ""])


def _leaves(parser: Parser, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Parser]]:
    """Every parser below one, by the words that lead to it."""
    yield " ".join(names), parser
    for name, command in parser.commands().items():
        yield from _leaves(command, (*names, name))


def _words(parser: Parser) -> list[str]:
    """The words that may follow: commands, choices without an option, and options."""
    options = [name for option in parser.options() for name in option.names]
    return [*parser.commands(), *_choices(parser), *options, "--help"]


def _choices(parser: Parser) -> list[str]:
    """The words among which arguments without an option are chosen."""
    return [str(c) for o in parser.options() if not o.names for c in o.choices or ()]


def _bash(parser: Parser) -> Iterator[str]:
    yield "_keras2gp() {"
    yield '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"'
    yield "    local words choices"
    yield '    local command="${COMP_WORDS[1]}"'
    nested = [name for name, command in parser.commands().items() if command.commands()]
    listed = [*nested, *(words for words, command in _leaves(parser) if _choices(command))]
    known = "".join(f" || $command == '{words}'" for words in listed)
    yield "    (( COMP_CWORD == 1 )) && command="
    for name in nested:
        yield f"    [[ $command == {name} ]] && (( COMP_CWORD > 2 )) &&"
        yield f'        command="{name} ${{COMP_WORDS[2]}}"'
    yield '    case "$command:$prev" in'
    for words, command in _leaves(parser):
        for option in command.options():
            if option.choices:
                patterns = "|".join(f"'{words}:{name}'" for name in option.names)
                if patterns:
                    yield f"        {patterns}) choices='{' '.join(option.choices)}' ;;"
    yield "    esac"
    yield '    case "$command" in'
    for words, command in _leaves(parser):
        yield f"        '{words}') words='{' '.join(_words(command))}' ;;"
    yield "    esac"
    yield '    if [[ -n $choices ]]; then COMPREPLY=($(compgen -W "$choices" -- "$cur"))'
    yield f"    elif [[ $cur == -* || -z $command{known} ]]; then"
    yield '        COMPREPLY=($(compgen -W "$words" -- "$cur"))'
    yield '    else COMPREPLY=($(compgen -f -- "$cur")); fi'
    yield "}"
    yield "complete -o filenames -o bashdefault -F _keras2gp keras2gp"


def _zsh(parser: Parser) -> Iterator[str]:
    yield "_keras2gp() {"
    yield '    local command="$words[2]"'
    for name, command in parser.commands().items():
        if command.commands():
            yield f'    [[ $command == {name} ]] && (( CURRENT > 3 )) && command="{name} $words[3]"'
    yield "    if (( CURRENT == 2 )); then"
    yield f"        compadd -- {' '.join(_words(parser))}; return"
    yield "    fi"
    yield '    case "$command:$words[CURRENT-1]" in'
    for words, command in _leaves(parser):
        for option in command.options():
            if option.choices and option.names:
                patterns = "|".join(f"'{words}:{name}'" for name in option.names)
                yield f"        {patterns}) compadd -- {' '.join(option.choices)}; return ;;"
    yield "    esac"
    yield '    case "$command" in'
    for words, command in _leaves(parser):
        if words:
            yield f"        '{words}') compadd -- {' '.join(_words(command))} ;;"
    yield "    esac"
    yield "    _files"
    yield "}"
    # From $fpath the file is the function itself, at its first call; else it is sourced.
    yield 'if [[ $funcstack[1] == _keras2gp ]]; then _keras2gp "$@"'
    yield "else compdef _keras2gp keras2gp; fi"


def _fish(parser: Parser) -> Iterator[str]:
    for words, command in _leaves(parser):
        path = words.split()
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path)
        where = f"-n '{seen}' " if path else ""
        if command.commands():
            names = " ".join(command.commands())
            missing = f"not __fish_seen_subcommand_from {names}"
            condition = f"{seen}; and {missing}" if path else missing
            yield f"complete -c keras2gp -f -n '{condition}' -a '{names}'"
        if choices := _choices(command):
            yield f"complete -c keras2gp -f {where}-a '{' '.join(choices)}'"
        for option in command.options():
            yield from _fish_option(option, where)


def _fish_option(option: Option, where: str) -> Iterator[str]:
    told = option.help.replace("\\", "\\\\").replace("'", "\\'")
    for name in option.names:
        if option.is_flag:
            value = ""
        else:
            value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r"
        yield f"complete -c keras2gp {where}-l {name.lstrip('-')}{value} -d '{told}'"
