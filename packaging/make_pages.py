#!/usr/bin/env python3
"""Makes the manual pages and the shell completion of the programs that have been built.

    packaging/make_pages.py BIN_FOLDER OUT_FOLDER

Commands and options are read from what `masq COMMAND --help` and `masqd --help` say, keys of the
configuration from the tables of docs/configuration.md, which tests/tidy holds to the code: so
neither can differ from what there is. The texts round them are packaging/man/*.in, in mdoc(7);
`@OPTIONS@`, `@COMMANDS@` and `@KEYS@` stand for what is read. The old commands' pages quote their
own help. A help that cannot be read ends this with a sentence, and makes nothing.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATE = "November 23, 2026"
OLD_COMMANDS = {
    "ipchains": "change and list rule chains, as on Linux 2.2",
    "ipchains-save": "print the rule chains in the form that ipchains-restore reads",
    "ipchains-restore": "put rule chains in force that ipchains-save has printed",
    "ipfwadm": "change and list rules, as on Linux 2.0",
    "ipmasqadm": "lead ports of the gateway to inner hosts, as on Linux 2.2",
    "ipportfw": "lead ports of the gateway to inner hosts, as on Linux 2.0",
}
INTERFACE_OPTIONS = {"--external", "--internal", "--interface"}
FILE_OPTIONS = {"--config", "--pcap"}


class Unreadable(Exception):
    """What a program says of itself is not in the form that is known here."""


class Option:
    """One option, or one positional word, of a command."""

    def __init__(self, names, value, text):
        self.names, self.value, self.text = names, value, text
        found = re.search(r":\{([^}]*)\}", value)
        self.choices = found.group(1).split(",") if found else []

    def argument(self):
        """What stands behind the name, for people."""
        if self.choices:
            return "|".join(self.choices)
        word = self.value.split(" ")[0].split(":")[0]
        return {"UINT": "N", "TEXT": "WORD"}.get(word, word)


class Command:
    """What a program, or one command of it, says of itself."""

    def __init__(self, words, text):
        self.words = words
        self.sentence, self.options, self.positionals, self.commands = "", [], [], {}
        usage = text.find("Usage: ")
        if usage < 0:
            raise Unreadable(f"`{' '.join(words)} --help` has no usage.")
        self.sentence = " ".join(text[:usage].split())
        for title, body in re.findall(r"^(\w+):\n((?:  .*\n)+)", text, re.MULTILINE):
            for names, rest in self.rows(body):
                self.enter(title, names, rest)

    @staticmethod
    def rows(body):
        rows = []
        for line in body.splitlines():
            if line.startswith("   "):
                rows[-1] = (rows[-1][0], f"{rows[-1][1]}  {line.strip()}")
            else:
                first, _, rest = line.strip().partition(" ")
                rows.append((first, rest))
        return rows

    def enter(self, title, first, rest):
        value, _, text = rest.partition("  ") if not rest.startswith("  ") else ("", "", rest)
        text = " ".join(text.split())
        if title == "Options":
            self.options.append(Option(first.split(","), value.strip(), text))
        elif title == "Positionals":
            self.positionals.append(Option([first], value.strip(), text))
        elif title == "Subcommands":
            self.commands[first] = " ".join(rest.split())
        else:
            raise Unreadable(f"`{' '.join(self.words)} --help` has an unknown part {title}.")


def said_by(argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0 or not done.stdout:
        raise Unreadable(f"`{' '.join(map(str, argv))}` ended with {done.returncode}.")
    return done.stdout


def read_commands(program):
    """Every command by its words: ("masq",), ("masq", "up"), ("masq", "forward", "add"), ..."""
    found, waiting = {}, [(program.name,)]
    while waiting:
        words = waiting.pop(0)
        found[words] = Command(words, said_by([str(program), *words[1:], "--help"]))
        waiting += [(*words, name) for name in found[words].commands]
    return found


# --- mdoc ----------------------------------------------------------------------------------------


def escaped(text):
    """Text that means nothing to roff: no control line, no escape, hyphens that can be typed."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def word(text):
    """One argument of a macro."""
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def sentences(text):
    """A new line after each sentence, as mdoc wants it."""
    lines = re.sub(r"([.;:]) +(?=\S)", r"\1\n", text).split("\n")
    return "\n".join(escaped(line) for line in lines)


def sentence(text):
    if not re.match(r"\w+,", text):  # a list of values keeps its form
        text = text[:1].upper() + text[1:]
    return sentences(text if text.endswith((".", ":")) else text + ".")


def option_items(options):
    lines = []
    for option in options:
        flags = " , ".join("Fl " + word(name[1:]) for name in option.names)
        value = f" Ar {word(option.argument())}" if option.value else ""
        lines += [f".It {flags}{value}", sentence(option.text)]
    return lines


def command_section(command):
    name = " ".join(command.words[1:])
    lines = [f".Ss {escaped(name)}"]
    if command.sentence and len(command.words) == 2:
        lines.append(sentence(command.sentence))
    if len(command.words) > 2 and command.sentence:
        lines += [".D1 " + word(f"{command.words[0]} {name}"), sentence(command.sentence)]
    shown = [option for option in command.options if "--help" not in option.names]
    if command.positionals or shown:
        lines.append(".Bl -tag -width Ds")
        for positional in command.positionals:
            lines += [f".It Ar {word(positional.names[0])}", sentence(positional.text)]
        lines += option_items(shown) + [".El"]
    return lines


def commands_text(commands):
    lines = []
    for words, command in commands.items():
        if len(words) == 1:
            continue
        if words == ("masq", "run-script"):  # the options of `up` need not be said twice
            known = {name for option in commands[("masq", "up")].options for name in option.names}
            own = Command(words, "Usage: ")
            own.sentence, own.positionals = command.sentence, command.positionals
            own.options = [each for each in command.options if not set(each.names) <= known]
            lines += [*command_section(own), "Takes the options of", ".Cm up", "as well."]
            continue
        lines += command_section(command)
    return "\n".join(lines)


def plain(markdown):
    """The words of a cell of Markdown."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown.replace("\\|", "|"))
    return re.sub(r"; see below|See below\. ?", "", text.replace("`", ""))


def keys_text(document):
    """Of the tables whose rows begin with a key: each key, its default, and what it does."""
    lines, seen = [".Bl -tag -width Ds"], set()
    for line in document.split("\n"):
        found = re.match(r"\| *`(\w+)` *\|(.*)\|\s*$", line)
        if not found or found.group(1) in seen:
            continue
        seen.add(found.group(1))
        cells = [plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", found.group(2))]
        lines += [f".It Cm {word(found.group(1))}", sentence(cells[-1]),
                  sentence(f"Default: {cells[-2]}")]
    if len(seen) < 10:
        raise Unreadable("docs/configuration.md has no tables of keys any more.")
    return "\n".join([*lines, ".El"])


def old_page(name, text, help_text):
    body = "\n".join("\\&" + escaped(line) if line.startswith((".", "'")) else escaped(line)
                     for line in help_text.rstrip().split("\n"))
    return f""".Dd {DATE}
.Dt {name.upper()} 8
.Os masq
.Sh NAME
.Nm {name}
.Nd {text}
.Sh DESCRIPTION
.Nm
belongs to masq: it acts on the gateway that runs in this network namespace, or tells in one
sentence why it did not.
A call that fails has changed nothing.
.Bd -literal
{body}
.Ed
.Sh EXIT STATUS
0 if it was done, another number if not.
.Sh SEE ALSO
.Xr masq 8 ,
.Pa /usr/share/doc/masq/rules.md ,
.Pa /usr/share/doc/masq/forwards.md
"""


# --- completion ----------------------------------------------------------------------------------


def completion(programs):
    cases = []
    for commands in programs:
        for words, command in commands.items():
            names = [name for option in command.options for name in option.names
                     if name.startswith("--")]
            all_words = " ".join([*command.commands, *names])
            cases.append(f'    "{" ".join(words)}") words="{all_words}" ;;')
    values = {}
    for commands in programs:
        for command in commands.values():
            for option in command.options:
                for name in option.names:
                    if option.choices:
                        values[name] = f'_masq_words "{" ".join(option.choices)}"'
                    elif name in INTERFACE_OPTIONS:
                        values[name] = '_masq_words "$(command ls /sys/class/net 2>/dev/null)"'
                    elif name in FILE_OPTIONS:
                        values[name] = "_masq_files"
                    elif option.value:
                        values[name] = ":"
    places = {" ".join(words): command for commands in programs for words, command in
              commands.items()}
    nested = "|".join(f'"{name}"' for name in places if name.count(" "))
    arms = "\n".join(f"    {name}) {what}; return ;;" for name, what in sorted(values.items()))
    files = "|".join(f'"masq {name}"' for name in ("check", "replay", "run-script"))
    cases = "\n".join(cases)
    return f"""# Completion of masq and masqd for bash, and for zsh with bashcompinit. Made by
# packaging/make_pages.py of what the programs say of themselves.

_masq_words() {{ COMPREPLY=($(compgen -W "$1" -- "$word")); }}
_masq_files() {{ COMPREPLY=($(compgen -f -- "$word")); }}

_masq() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} at words i
  at=${{COMP_WORDS[0]##*/}}
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case "$at ${{COMP_WORDS[i]}}" in
      {nested}) at="$at ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case $before in
{arms}
  esac
  case $at in
{cases}
  esac
  case $at in
    {files}) [[ $word == -* ]] || {{ _masq_files; return; }} ;;
  esac
  _masq_words "$words"
}}
complete -o filenames -F _masq masq masqd
"""


def make(binaries, out):
    programs = [read_commands(binaries / "masq"), read_commands(binaries / "masqd")]
    masq, masqd = programs
    texts = {"@DATE@": DATE, "@COMMANDS@": commands_text(masq),
             "@OPTIONS@": "\n".join([".Bl -tag -width Ds",
                                     *option_items(masqd[("masqd",)].options), ".El"]),
             "@KEYS@": keys_text((ROOT / "docs/configuration.md").read_text(encoding="utf-8"))}
    pages = {}
    for source in sorted((ROOT / "packaging" / "man").glob("*.in")):
        text = source.read_text(encoding="utf-8")
        for mark, value in texts.items():
            text = text.replace(mark, value)
        pages[source.stem] = text
    for name, text in OLD_COMMANDS.items():
        help_text = subprocess.run([binaries / name, "-h"], capture_output=True, text=True,
                                   timeout=20, check=False)
        pages[f"{name}.8"] = old_page(name, text, help_text.stdout or help_text.stderr)
    pages["masq.bash"] = completion(programs)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")


def main(arguments):
    if len(arguments) != 2:
        print("usage: packaging/make_pages.py BIN_FOLDER OUT_FOLDER", file=sys.stderr)
        return 2
    try:
        make(pathlib.Path(arguments[0]).resolve(), pathlib.Path(arguments[1]))
    except (Unreadable, OSError, subprocess.SubprocessError) as problem:
        print(f"make_pages.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
