"""Prints a script that completes `champ` in a shell: commands, options, fields of configs and their values.

    champ completion bash > ~/.local/share/bash-completion/completions/champ
    champ completion zsh > ~/.zfunc/_champ

Or for the running shell, `source <(champ completion bash)`. The script comes from the parsers and configs of the
version that is installed: print it again after an update.
"""

import shlex
from collections.abc import Mapping, Sequence

from champ_jax.commands.catalog import summary
from champ_jax.commands.options import Option, all_options
from champ_jax.common.cli import Parser

SHELLS = ("bash", "zsh")


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    parser.add_argument("shell", choices=SHELLS, help="the shell that will read the script")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and prints."""
    shell = parser().parse_args(argv).shell
    options = all_options()
    print({"bash": bash_script, "zsh": zsh_script}[shell](options), end="")


def bash_script(options: Mapping[str, Sequence[Option]]) -> str:
    """The script for bash 4 and newer; it needs no package of completions."""
    names, values, commands = [], [], ["-h", "--help", "--version", *options]
    for command, listed in options.items():
        words = [option.name if option.kind == "flag" else f"{option.name}=" for option in listed if option.name]
        words += [word for option in listed if not option.name for word in option.words]
        names.append(f"    {command}) words={shlex.quote(' '.join(words))} ;;")
        for option in listed:
            if option.name and option.kind != "flag":
                known = f"; words={shlex.quote(' '.join(option.words))}" if option.words else ""
                values.append(f"    {shlex.quote(f'{command} {option.name}')}) kind={option.kind}{known} ;;")
    return _BASH.format(commands=shlex.quote(" ".join(commands)), names="\n".join(names), values="\n".join(values))


def zsh_script(options: Mapping[str, Sequence[Option]]) -> str:
    """The script for zsh, a function of its completion system (zshcompsys)."""
    commands = "\n".join(f"    {_zsh_quote(f'{name}:{summary(name)}')}" for name in options)
    cases = []
    for command, listed in options.items():
        specs = " \\\n        ".join(_zsh_spec(option) for option in listed)
        cases.append(f"      ({command})\n        _arguments \\\n        {specs} ;;")
    return _ZSH.format(commands=commands, cases="\n".join(cases))


def _zsh_spec(option: Option) -> str:
    """An option as `_arguments` has it."""
    help_text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    words = " ".join(option.words)
    action = {
        "words": f":value:({words})",
        "list": f":list:_sequence compadd - {words}",
        "path": ":path:_files",
        "value": ":value: ",
        "flag": "",
    }[option.kind]
    if not option.name:
        return _zsh_quote(f"1{action}")
    if option.kind == "flag":
        return _zsh_quote(f"{option.name}[{help_text}]")
    return _zsh_quote(f"{option.name}=[{help_text}]{action}")


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_BASH = """\
# Completes `champ` in bash. Written by `champ completion bash`.
_champ() {{
  local line=${{COMP_LINE:0:COMP_POINT}} current option start= prefix= kind= words= word
  local -a typed
  read -ra typed <<< "$line"
  [[ $line == *[[:space:]] ]] && typed+=("")
  local count=${{#typed[@]}}
  current=${{typed[count-1]}}
  COMPREPLY=()
  if (( count <= 2 )); then
    for word in $(compgen -W {commands} -- "$current"); do COMPREPLY+=("$word "); done
    return
  fi
  if [[ $current == --*=* ]]; then
    option=${{current%%=*}} current=${{current#*=}}
  elif [[ ${{typed[count-2]}} == --* && ${{typed[count-2]}} != *=* && $current != --* ]]; then
    option=${{typed[count-2]}}
  fi
  if [[ -n $option ]]; then
    [[ ${{typed[count-1]}} == --*=* && $COMP_WORDBREAKS != *=* ]] && start=$option=
    case "${{typed[1]}} $option" in
{values}
    esac
  fi
  case $kind in
    path)
      compopt -o filenames 2> /dev/null
      while IFS= read -r word; do COMPREPLY+=("$start$word"); done < <(compgen -f -- "$current")
      return ;;
    list)
      [[ $current == *,* ]] && prefix=${{current%,*}}, current=${{current##*,}}
      for word in $(compgen -W "$words" -- "$current"); do
        [[ ,$prefix == *,$word,* ]] || COMPREPLY+=("$start$prefix$word")
      done
      return ;;
    words)
      for word in $(compgen -W "$words" -- "$current"); do COMPREPLY+=("$start$word "); done
      return ;;
    value) return ;;
  esac
  case ${{typed[1]}} in
{names}
  esac
  for word in $(compgen -W "$words" -- "$current"); do
    [[ $word == *= ]] && COMPREPLY+=("$word") || COMPREPLY+=("$word ")
  done
}}
complete -o nospace -F _champ champ
"""

_ZSH = """\
#compdef champ
# Completes `champ` in zsh. Written by `champ completion zsh`.
_champ() {{
  local context state state_descr line
  typeset -A opt_args
  local -a commands
  commands=(
{commands}
  )
  _arguments -C '(-h --help)'{{-h,--help}}'[show this help]' '--version[show the version]' \\
    '1:command:->command' '*::argument:->arguments'
  case $state in
    (command) _describe -t commands command commands ;;
    (arguments)
      case $line[1] in
{cases}
      esac ;;
  esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _champ "$@"
else
  compdef _champ champ
fi
"""
