# SPDX-License-Identifier: Apache-2.0
"""Completion scripts for bash, zsh and fish. Names are plain words, so none needs quotes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Table = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words that complete a command line."""

    verbs: Mapping[str, str]
    """Verb -> its description."""
    second: Table
    """Verb -> words that may follow it."""
    third: Table
    """Verb and second word -> words that may follow them."""
    options: Table
    """Verb -> its options, for a word that starts with a dash."""


def bash_script(words: Words) -> str:
    """Script for bash; files complete where no word does."""
    return f"""# bash completion of pippin
_pippin() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if (( COMP_CWORD == 1 )); then
        words="{" ".join(words.verbs)} --help --version"
    elif [[ "$word" == -* ]]; then
        case "${{COMP_WORDS[1]}}" in
{_cases(words.options, "words=", '"')}
        esac
    elif (( COMP_CWORD == 2 )); then
        case "${{COMP_WORDS[1]}}" in
{_cases(words.second, "words=", '"')}
        esac
    elif (( COMP_CWORD == 3 )); then
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{_cases(words.third, "words=", '"')}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _pippin pippin"""


def zsh_script(words: Words) -> str:
    """Script for zsh, to be evaluated or saved as ``_pippin``."""
    return f"""#compdef pippin
_pippin() {{
    local -a candidates
    if (( CURRENT == 2 )); then
        candidates=({" ".join(words.verbs)} --help --version)
    elif [[ "$words[CURRENT]" == -* ]]; then
        case "$words[2]" in
{_cases(words.options, "candidates=", "()")}
        esac
    elif (( CURRENT == 3 )); then
        case "$words[2]" in
{_cases(words.second, "candidates=", "()")}
        esac
    elif (( CURRENT == 4 )); then
        case "$words[2] $words[3]" in
{_cases(words.third, "candidates=", "()")}
        esac
    fi
    if (( $#candidates )); then
        compadd -- $candidates
    else
        _files
    fi
}}
if [[ "$funcstack[1]" == _pippin ]]; then
    _pippin "$@"
else
    compdef _pippin pippin
fi"""


def fish_script(words: Words) -> str:
    """Script for fish."""
    lines = [
        "# fish completion of pippin",
        "function __pippin_option",
        "    string match -q -- '-*' (commandline -ct); or return 1",
        "    set -l given (commandline -opc)[2..-1]",
        "    set -l length (count $argv)",
        '    test (count $given) -ge $length; and test "$given[1..$length]" = "$argv"',
        "end",
        "function __pippin_ends",
        "    set -l given (commandline -opc)[2..-1]",
        '    test "$given" = "$argv"',
        "end",
    ]
    lines += [
        f'complete -c pippin -f -n "__pippin_ends" -a {verb} -d "{text}"'
        for verb, text in words.verbs.items()
    ]
    lines.append('complete -c pippin -f -n "__pippin_ends" -a "--help --version"')
    following = {**words.second, **words.third}
    for before, table in ("__pippin_ends", following), ("__pippin_option", words.options):
        lines += [
            f'complete -c pippin -n "{before} {start}" -a "{" ".join(names)}"'
            for start, names in table.items()
        ]
    return "\n".join(lines)


def _cases(table: Table, assign: str, quotes: str) -> str:
    """Branches of a ``case``; starts with equal words share one."""
    starts: dict[tuple[str, ...], list[str]] = {}
    for start, names in table.items():
        starts.setdefault(tuple(names), []).append(f'"{start}"')
    opening, closing = quotes[0], quotes[-1]
    return "\n".join(
        f"            {'|'.join(start)}) {assign}{opening}{' '.join(names)}{closing} ;;"
        for names, start in starts.items()
    )


SCRIPTS: dict[str, Callable[[Words], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
"""Shell -> function that writes its script."""
