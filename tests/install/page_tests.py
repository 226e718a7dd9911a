"""Manual pages and completion against what the installed programs say of themselves: each option of
each command is on the page and is completed, and no other. The help is read here by a pattern of
its own, and not as packaging/make_pages.py does.
"""

import re
import subprocess

LONG = re.compile(r"--[a-z][a-z0-9-]*")


def help_of(it, words):
    done = it.masq(*words[1:], "--help") if words[0] == "masq" else it.masqd(*words[1:], "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_of(text):
    """What begins the lines of the help."""
    return {name for line in text.splitlines() if line.startswith("  -")
            for name in LONG.findall(line.split()[0])}


def commands_of(text):
    _, _, below = text.partition("\nSubcommands:\n")
    return re.findall(r"^  (\S+) ", below, re.MULTILINE)


def every_command(it):
    waiting, found = [("masq",), ("masqd",)], {}
    while waiting:
        words = waiting.pop()
        found[words] = help_of(it, words)
        waiting += [(*words, name) for name in commands_of(found[words])]
    assert len(found) > 10, found.keys()
    return found


def page(it, name):
    return (it.prefix / "share" / "man" / f"man{name[-1]}" / name).read_text(encoding="utf-8")


def options_on(text):
    """Of lines that begin an item; on a page hyphens are escaped."""
    return {name for line in text.splitlines() if line.startswith(".It Fl")
            for name in LONG.findall(line.replace("\\-", "-").replace('Fl "', "-"))}


def completed(it, line):
    """What bash would offer behind the words of the line."""
    script = (f"source {it.prefix}/share/bash-completion/completions/masq; COMP_WORDS=({line} '');"
              "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _masq; printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def test_pages_have_the_options_of_the_help_and_no_others(it):
    masq = page(it, "masq.8").replace("\\-", "-")
    sections = dict(re.findall(r"^\.Ss ([^\n]*)\n(.*?)(?=^\.S[sh] )", masq,
                               re.MULTILINE | re.DOTALL))
    commands = every_command(it)
    up = options_of(commands[("masq", "up")])
    for words, text in commands.items():
        told = options_of(text) - {"--help"}
        if words == ("masqd",):
            shown = options_on(page(it, "masqd.8")) - {"--help"}
        elif words == ("masq",):
            continue
        else:
            shown = options_on(sections[" ".join(words[1:])])
            if words[1] == "run-script":
                told -= up
        assert told == shown, f"{' '.join(words)}: {told ^ shown}"
    assert {" ".join(words[1:]) for words in commands if words[0] == "masq"} - {""} == set(sections)


def test_completion_offers_the_commands_and_options_of_the_help(it):
    for words, text in every_command(it).items():
        offered = completed(it, " ".join(words))
        if words[1:] in (("check",), ("replay",), ("run-script",)):  # files first
            script_words = completed_options(it, words)
            assert script_words == options_of(text), words
            continue
        assert offered == options_of(text) | set(commands_of(text)), words


def completed_options(it, words):
    script = (f"source {it.prefix}/share/bash-completion/completions/masq;"
              f"COMP_WORDS=({' '.join(words)} --); COMP_CWORD={len(words)}; _masq;"
              "printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


def test_completion_knows_interfaces_and_values(it):
    assert "lo" in completed(it, "masq up --external")
    assert completed(it, "masq up --filtering") == {"apdf", "adf", "eif"}
    assert completed(it, "masq up --flows-max") == set()


def test_the_page_of_the_configuration_has_every_key(it):
    text = (it.source / "src" / "policy" / "config.cpp").read_text(encoding="utf-8")
    text += (it.source / "src" / "policy" / "config.h").read_text(encoding="utf-8")
    keys = set(re.findall(r'key == "(\w+)"', text)) | set(
        re.findall(r'^ *(?:constexpr .*)?\{+"(\w+)", &Config::', text, re.MULTILINE))
    assert {"external", "udp_s", "host_flows", "mss_clamp"} <= keys, keys
    shown = page(it, "masq.toml.5")
    missing = {key for key in keys if key not in shown}
    assert not missing, missing


def test_mandoc_has_nothing_to_say(it):
    for path in sorted((it.prefix / "share" / "man").rglob("*.[58]")):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0 and not done.stdout, done.stdout
