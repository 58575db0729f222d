"""What bash, zsh and fish complete after ``fieldwatch-agent``: commands, their flags with help, values, files.

Promise: the three say the same, and what the program says. All come from the program's own argument parser; the
packages carry the text, so that nothing runs at a press of the Tab key.

Values are words where the parser knows them, else file names: nearly all are paths, and the rest nobody can guess.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """A flag with its ``names``, or what follows a command without one. ``value``: what to call its value, empty where
    it takes none; ``words``: which values there are; ``again``: it may be repeated.
    """

    names: tuple[str, ...]
    help: str
    value: str
    words: tuple[str, ...]
    again: bool


@dataclass(frozen=True)
class Command:
    """A command. ``rest``: what follows it besides flags, None where nothing does."""

    name: str
    help: str
    flags: tuple[Argument, ...]
    rest: Argument | None


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """Return the commands of the program, in its order."""
    (choice,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in choice._choices_actions}
    return [_command(name, helps[name], sub) for name, sub in choice.choices.items()]


def options(parser: argparse.ArgumentParser) -> tuple[Argument, ...]:
    """Return the flags of the parser itself."""
    return tuple(_argument(action) for action in parser._actions if action.option_strings)


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Command:
    rest = [_argument(action) for action in parser._actions if not action.option_strings]
    assert len(rest) <= 1, f"{name}: completion knows one kind of argument a command"
    return Command(name, _shown(text), options(parser), rest[0] if rest else None)


def _argument(action: argparse.Action) -> Argument:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest).lower()
    again = action.nargs in {"*", "+"} or isinstance(action, argparse._AppendAction)
    return Argument(tuple(action.option_strings), _shown(action.help or ""), value, tuple(action.choices or ()), again)


def _shown(text: str) -> str:
    """Return a help text as argparse shows it."""
    return text.replace("%%", "%")


def bash(parser: argparse.ArgumentParser) -> str:
    """Return bash's completion."""
    cases = []
    for command in commands(parser):
        flags = " ".join(name for flag in command.flags for name in flag.names)
        words = " ".join(command.rest.words) if command.rest else ""
        values = "".join(
            f" {flag.names[-1]}) words='{' '.join(flag.words)}' ;;" for flag in command.flags if flag.words
        )
        more = f'; case "$before" in{values} esac' if values else ""
        cases.append(f"        {command.name}) flags='{flags}' words='{words}'{more} ;;")
    names = " ".join(command.name for command in commands(parser))
    own = " ".join(name for flag in options(parser) for name in flag.names)
    function = "_" + parser.prog.replace("-", "_")
    return f"""\
{function}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}" flags='{own}' words=
    case "${{COMP_WORDS[1]}}" in
{chr(10).join(cases)}
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        flags='{own}' words='{names}'
    fi
    if [ "${{word#-}}" != "$word" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
    elif [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}}
complete -o filenames -F {function} {parser.prog}
"""


def zsh(parser: argparse.ArgumentParser) -> str:
    """Return zsh's completion, an autoloaded function."""
    described = "\n".join(f"        {_quoted(f'{each.name}:{each.help}')}" for each in commands(parser))
    cases = []
    for command in commands(parser):
        specs = [spec for flag in command.flags for spec in _zsh_specs(flag)]
        if command.rest:
            times = "*" if command.rest.again else "1"
            specs.append(f"{times}:{_plain(command.rest.value)}:{_zsh_values(command.rest.words)}")
        cases.append(f"                {command.name}) _arguments {' '.join(map(_quoted, specs))} ;;")
    own = " ".join(_quoted(spec) for flag in options(parser) for spec in _zsh_specs(flag))
    return f"""\
#compdef {parser.prog}
_{parser.prog}() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    commands=(
{described}
    )
    _arguments -C {own} '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
{chr(10).join(cases)}
            esac
            ;;
    esac
}}
_{parser.prog} "$@"
"""


def _zsh_specs(flag: Argument) -> list[str]:
    ends = {"--help", "--version"} & set(flag.names)
    before = "(- *)" if ends else "*" if flag.again else ""
    value = f":{_plain(flag.value)}:{_zsh_values(flag.words)}" if flag.value else ""
    return [f"{before}{name}{'=' if value else ''}[{_plain(flag.help)}]{value}" for name in flag.names]


def _zsh_values(words: tuple[str, ...]) -> str:
    return f"({' '.join(words)})" if words else "_files"


def _plain(text: str) -> str:
    """What zsh takes as a text within a specification."""
    return re.sub(r"([\\:\[\]])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(parser: argparse.ArgumentParser) -> str:
    """Return fish's completion."""
    lines = ["-f"]
    lines += [f"-n __fish_use_subcommand {_fish(flag)}" for flag in options(parser)]
    for command in commands(parser):
        lines.append(f"-n __fish_use_subcommand -a {command.name} -d {_fish_quoted(command.help)}")
        after = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"{after} {_fish(flag)}" for flag in command.flags]
        if command.rest:
            lines.append(f"{after} {_fish_values(command.rest.words)}")
    return "".join(f"complete -c {parser.prog} {line}\n" for line in lines)


def _fish(flag: Argument) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
    value = f" -r {_fish_values(flag.words)}" if flag.value else ""
    return f"{names}{value} -d {_fish_quoted(flag.help)}"


def _fish_values(words: tuple[str, ...]) -> str:
    return f"-a {_fish_quoted(' '.join(words))}" if words else "-F"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
