"""Rules about words: documents agree with the code, links lead somewhere, the tone is ours."""

import importlib.util
import posixpath
import re

from rule import registry
from tree import REPOSITORY, comments_only, CPP, first_column, interpreter, line_of, sections

RULES, rule = registry()

# --- documents that repeat what code says --------------------------------------------------------


def make_reasons():
    spec = importlib.util.spec_from_file_location("make_reasons",
                                                  REPOSITORY / "docs" / "make_reasons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@rule("reasons", "docs/reasons.md is what docs/make_reasons.py makes of src/core/reasons.h.",
      bad=[{"src/core/reasons.h": '  X(unheard_of, "it is new") \\\n', "docs/reasons.md": "# R\n"},
           {"src/core/reasons.h": '  X(malformed, "it is bad") \\\n', "docs/reasons.md": "# R\n"}],
      good={})
def reasons(tree):
    header = tree.get("src/core/reasons.h")
    if header is None:
        return []
    document, mistakes = make_reasons().make(header)
    findings = [f"docs/make_reasons.py:1: {mistake}" for mistake in mistakes]
    if not mistakes and document != tree.get("docs/reasons.md"):
        findings.append("docs/reasons.md:1: is not up to date; run docs/make_reasons.py")
    return findings


def json_keys(text, function):
    """The names of the fields that a function puts out."""
    found = re.search(rf"^json {function}\(.*?^}}", text, re.MULTILINE | re.DOTALL)
    body = found.group(0) if found else ""
    return set(re.findall(r'(?:\b\w+\[|\{)"(\w+)"(?:\]|,)', body))


REPORT = """
json flows_json(const D& d) {
  out.push_back({{"protocol", 1}, {"state", 2}});
}
"""


# Section of docs/json.md -> the file and the functions that make it.
JSON_MAKERS = {
    "status": ("src/cli/report.cpp", ("status_json", "port_blocks_json")),
    "flows": ("src/cli/report.cpp", ("flows_json",)),
    "mappings": ("src/cli/report.cpp", ("mappings_json",)),
    "explain": ("src/cli/explanation.cpp",
                ("explanation_json", "flow_of", "mapping_of", "host_json", "block_json",
                 "limit_json")),
    "doctor": ("src/cli/doctor.cpp", ("doctor_json",)),
    "explain --last": ("src/cli/explanation.cpp", ("last_json",)),
}


@rule("json", "docs/json.md names the fields that the commands put out, and no others.",
      bad=[{"src/cli/report.cpp": REPORT, "docs/json.md": "## flows\n| `protocol` | x |\n"},
           {"src/cli/report.cpp": REPORT,
            "docs/json.md": "## flows\n| `protocol` | |\n| `state` | |\n| `colour` | |\n"},
           {"src/cli/explanation.cpp": REPORT.replace("flows_json", "last_json"),
            "docs/json.md": "## explain --last\n| `protocol` | |\n"}],
      good={"src/cli/report.cpp": REPORT,
            "docs/json.md": "## flows\n| `protocol` | |\n| `state` | |\n"})
def json_fields(tree):
    findings = []
    parts = sections(tree.get("docs/json.md", ""))
    traffic = set(re.findall(r"^ *X\((\w+),", tree.get("src/core/traffic.h", ""), re.MULTILINE))
    user = set(re.findall(r"^ *X\((\w+),", tree.get("src/gateway/user_tables.h", ""), re.MULTILINE))
    for name, (path, functions) in JSON_MAKERS.items():
        if path not in tree:
            continue
        written = set().union(*(json_keys(tree[path], function) for function in functions))
        if name == "status":
            written |= traffic | user | json_keys(tree["src/cli/report.cpp"], "interface_json")
        words = set()
        for path in first_column(parts.get(name, "")):
            words |= {word for word in re.split(r"[.\[\]]+", path) if word and word != "REASON"}
        for word in sorted(written - words):
            findings.append(f"docs/json.md:1: `{name}` does not name the field `{word}`")
        for word in sorted(words - written):
            findings.append(f"docs/json.md:1: `{name}` names `{word}`, which does not exist")
    return findings


CONFIG_CPP = """
constexpr NumberKey kTimeouts[] = {{"udp_s", &Config::udp_s, 1}};
  if (key == "external") {
  } else if (key == "timeouts") {
"""
IN_ORDER = ("| `udp_s` | 300 |\n| `limit` | `--limit` |\n| `external` | |\n"
            "`--external`\n`[timeouts]`\n")
CONFIG_H = '  u32 udp_s = 300;\n  {"limit", &Config::limit, "--limit"}\n'
CONFIG = {"src/policy/config.cpp": CONFIG_CPP, "src/policy/config.h": CONFIG_H,
          "src/cli/masq.cpp": 'up_command->add_option("--external", external);\n'
                              'other->add_flag("--json", as_json)\n'}


@rule("configuration", "docs/configuration.md names every key and option, with the true default.",
      bad=[CONFIG | {"docs/configuration.md": IN_ORDER.replace("| `external` | |\n", "")},
           CONFIG | {"docs/configuration.md": IN_ORDER.replace("300", "299")},
           CONFIG | {"docs/configuration.md": IN_ORDER.replace("`--external`\n", "")},
           CONFIG | {"docs/configuration.md": IN_ORDER.replace("`--limit`", "")},
           CONFIG | {"docs/configuration.md": IN_ORDER.replace("`[timeouts]`\n", "")},
           CONFIG | {"docs/configuration.md": IN_ORDER + "| `no_such` | |\n"},
           CONFIG | {"docs/configuration.md": IN_ORDER + "`masq up --no-such`\n"},
           CONFIG | {"docs/configuration.md": IN_ORDER,
                     "src/cli/masq.cpp": CONFIG["src/cli/masq.cpp"]
                                         + 'command.add_flag("--flag", flag)\n'}],
      good=CONFIG | {"docs/configuration.md": IN_ORDER})
def configuration(tree):
    code = tree.get("src/policy/config.cpp")
    if code is None:
        return []
    where = "docs/configuration.md"
    text = tree.get(where, "")
    keys = set(re.findall(r'\bkey == "(\w+)"', code))
    tables = code + tree.get("src/policy/config.h", "")
    keys |= set(re.findall(r'\{"(\w+)", &Config::', tables))
    rows = first_column(text)
    findings = [f"{where}:1: the key `{key}` is not named" for key in sorted(keys - rows.keys())
                if f"`[{key}]`" not in text]
    findings += [f"{where}:1: `{key}` is no key" for key in sorted(rows.keys() - keys)]
    for key, value in re.findall(r"^  u32 (\w+) = (\d+);", tree.get("src/policy/config.h", ""),
                                 re.MULTILINE):
        if value != "0" and key in rows and value not in rows[key]:
            findings.append(f"{where}:1: the default of `{key}` is {value}")
    # Those of the limits per host stand beside their keys.
    options = set(re.findall(r'\{"\w+", &Config::[^}]*?"(--[\w-]+)"', tables))
    for path in ("src/cli/masq.cpp", "src/gateway/main/masqd.cpp"):
        calls = re.findall(r'(?:\b\w+\s*(?:->|\.)add_option|\bcommand\.add_flag)'
                           r'\(\s*"(--[\w-]+)"([^;]*)', tree.get(path, ""))
        # An option with an empty group is between the two programs, not for people.
        options |= {name for name, rest in calls if '->group("")' not in rest}
    named = set(re.findall(r"`[^`\n]*?(--[a-z][\w-]*)", text))
    findings += [f"{where}:1: the option {o} is not named" for o in sorted(options - named)]
    findings += [f"{where}:1: {o} is no option" for o in sorted(named - options)]
    return findings


ORIGINAL = "docs/original-system.md"
ORIGINAL_HEAD = "| part | seen | how far | shown by |\n| --- | --- | --- | --- |\n"
ORIGINAL_TEST = {"tests/netns/test_a.py": "def test_b(lab):\n"}


@rule("original-system", "docs/original-system.md names tests that exist, and claims no more.",
      bad=[ORIGINAL_TEST | {ORIGINAL: f"{ORIGINAL_HEAD}{row}\n"} for row in (
          "| ping | x | there | `test_a.py::test_c` |",
          "| ping | x | there | `test_b.py::test_b` |",
          "| ping | x | in part: not all | |",
          "| ping | x | not there yet | `test_a.py::test_b` |",
          "| ping | x | perhaps | `test_a.py::test_b` |",
          "| ping | x | there | test_a.py::test_b |",
          "| ping | there | |")],
      good=ORIGINAL_TEST | {ORIGINAL: ORIGINAL_HEAD
                            + "| ping | x | there, by y | `test_a.py::test_b` |\n"
                              "| log | y | not there yet | |\n| SYN | z | the kernel's | |\n"})
def original_system(tree):
    """Nothing may be claimed by a row that names no test, nor by one whose test has gone."""
    findings = []
    rows = [(number, line) for number, line in enumerate(tree.get(ORIGINAL, "").split("\n"), 1)
            if line.startswith("|")]
    for number, line in rows[2:]:
        cells = [cell.strip() for cell in line[1:].removesuffix("|").split("|")]
        found = re.match(r"(there|in part|not there yet|the kernel's)\b", cells[2]
                         if len(cells) == 4 else "")
        names = re.findall(r"`(test_\w+\.py)::(test_\w+)`", cells[-1])
        if not found or len(names) != len(cells[-1].split()):
            findings.append(f"{ORIGINAL}:{number}: is no row of this table")
            continue
        if bool(names) != (found.group(1) in ("there", "in part")):
            findings.append(f"{ORIGINAL}:{number}: \"{found.group(1)}\" and {len(names)} tests")
        for file, test in names:
            if not re.search(rf"^def {test}\(", tree.get(f"tests/netns/{file}", ""), re.MULTILINE):
                findings.append(f"{ORIGINAL}:{number}: {file}::{test} does not exist")
    return findings


# --- links ---------------------------------------------------------------------------------------


def anchors(text):
    """The anchors of a Markdown text, as its readers make them from titles."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@rule("links", "Every link in a document leads to a file, and to a title in it.",
      bad=[{"README.md": "# A\n[b](docs/b.md)\n"},
           {"README.md": "# A\n[b](docs/b.md#no)\n", "docs/b.md": "# B\n"},
           {"docs/b.md": "# B\n[a](README.md)\n", "README.md": "# A\n"}],
      good={"README.md": "# A\n[b](docs/b.md#the-b) [c](#a) [d](docs/)\n",
            "docs/b.md": "# The B\n"})
def links(tree):
    findings = []
    folders = {posixpath.dirname(path) for path in tree}
    for path, text in tree.items():
        if not path.endswith(".md"):
            continue
        for found in re.finditer(r"\]\(([^)\s]+)\)", text):
            target = found.group(1)
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            full = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
            full = full if file else path
            where = f"{path}:{line_of(text, found.start())}"
            exists = full in tree or full in folders or (REPOSITORY / full).exists()
            if not exists:
                findings.append(f"{where}: {target} does not exist")
            elif anchor and full in tree and anchor not in anchors(tree[full]):
                findings.append(f"{where}: {target} has no such title")
    return findings


TOP = r"(?:src|docs|tests|bench|cmake|packaging)"
INSIDE_SRC = r"(?:wire|core|bpf|engine|policy|helpers|gateway|cli|compat|sim)"
ENDINGS = r"(?:md|cpp|h|py|pkt|cmake|txt)"
MENTION = re.compile(rf"(?<![\w./-])({TOP}|{INSIDE_SRC})/([\w./-]*\w\.{ENDINGS})\b")


@rule("mentions", "A file that a comment or a document names exists.",
      bad=[{"src/core/a.h": "// See docs/no.md.\n"}, {"README.md": "# A\n`core/no.h`\n"}],
      good={"src/core/a.h": "// See core/a.h and docs/b.md.\n", "docs/b.md": "# B\nsrc/core/a.h\n"})
def mentions(tree):
    findings = []
    for path, text in tree.items():
        if path.startswith("tests/tidy/"):
            continue  # names files that are only examples
        words = comments_only(text) if path.endswith(CPP) else text
        for found in MENTION.finditer(words):
            name = found.group(0)
            candidates = [name, "src/" + name, posixpath.join(posixpath.dirname(path), name),
                          "tests/" + name]
            if not any(candidate in tree for candidate in candidates):
                findings.append(f"{path}:{line_of(text, found.start())}: {name} does not exist")
    return findings


@rule("one-title", "A document has one title, on its first line.",
      bad=[{"a.md": "A\n# B\n"}, {"a.md": "# A\n# B\n"}],
      good={"a.md": "# A\n```\n# no title\n```\n## B\n"})
def one_title(tree):
    findings = []
    for path, text in tree.items():
        if not path.endswith(".md"):
            continue
        bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        if not text.startswith("# ") or len(re.findall(r"^# ", bare, re.MULTILINE)) != 1:
            findings.append(f"{path}:1: needs one title, and on the first line")
    return findings


# --- tone ----------------------------------------------------------------------------------------

# The words are put together from parts, so that this file keeps its own rule.
FORBIDDEN = [
    (r"\b(?:A" r"I|LL" r"Ms?|GP" r"T|chat" r"bots?|assist" r"ants?|language mo" r"dels?)\b",
     "the project speaks of itself alone"),
    (r"(?<!relay )(?<!user )(?<!User-)(?<!ssh-)(?<!transfer )\b[Aa]ge" r"nts?\b",
     "the project speaks of itself alone"),
    (r"\b(?:this|coding|working|previous|earlier) ses" r"sions?\b|\b(?:design|the) br" r"ief\b",
     "the project speaks of itself alone"),
    (r"(?<!RFC)(?<![\w&])#[1-9]\d*\b(?![0-9a-fA-F]|\.)|\b[Ii]ssue #?\d+", "no numbers of issues"),
    (r"(?<![\w.$}])/(?:wo" r"rk|home|root|Users)/", "no path of one machine"),
    (r"https?://(?:localhost|127\.0\.0\.1|10\.\d+\.\d+\.\d+):\d+", "no host of one machine"),
]
KNOWN_HOSTS = {"www.rfc-editor.org", "www.apache.org", "spdx.org"}
IS_TEXT = (".md", ".txt", ".toml", ".pkt") + CPP


def speaks(path, text):
    return path.endswith(IS_TEXT) or interpreter(path, text) != ""


@rule("tone", "The project speaks of itself alone: not of tools that wrote it, nor of a machine.",
      bad=[{"a.md": "# A\nWritten by an A" "I.\n"}, {"a.md": "# A\nthe age" "nt\n"},
           {"a.md": "# A\nin this ses" "sion\n"}, {"a.md": "# A\nfixes #" "12\n"},
           {"src/core/a.h": "// /ho" "me/x/y\n"}],
      good={"a.md": "# A\nA session (RFC 2663); a relay age" "nt; /run/masq; #include\n"})
def tone(tree):
    return [f"{path}:{line_of(text, found.start())}: `{found.group(0)}`: {sentence}"
            for path, text in tree.items() if speaks(path, text)
            for pattern, sentence in FORBIDDEN for found in re.finditer(pattern, text)]


@rule("hosts", "Texts name no host on the Internet but those that are known to stay.",
      bad=[{"a.md": "# A\nhttps://mirror.example.org.invalid-registry.net/x\n"}],
      good={"a.md": "# A\nhttps://www.rfc-editor.org/rfc/rfc4787 http://192.0.2.1/\n"})
def hosts(tree):
    findings = []
    for path, text in tree.items():
        if not speaks(path, text) or path.startswith("tests/tidy/"):
            continue
        for found in re.finditer(r"https?://([A-Za-z][\w-]*(?:\.[\w-]+)+)", text):
            host = found.group(1)
            if host not in KNOWN_HOSTS and not host.endswith((".lab", ".example", ".test")):
                findings.append(f"{path}:{line_of(text, found.start())}: the host {host}")
    return findings


AMERICAN = re.compile(r"\b([Bb]ehavior|[Nn]eighbor|[Ff]avor|[Hh]onor|[Cc]olor)(s|ed|ing|al)?\b")


@rule("spelling", "behaviour, neighbour, colour: one spelling in comments and documents.",
      bad=[{"a.md": "# A\nits behav" "ior\n"}, {"src/core/a.h": "// the neigh" "bor\n"}],
      good={"src/core/a.h": 'f("behav' 'ior");  // the neighbour\n'})
def spelling(tree):
    findings = []
    for path, text in tree.items():
        if not path.endswith((".md",) + CPP):
            continue
        words = comments_only(text) if path.endswith(CPP) else text
        for found in AMERICAN.finditer(words):
            findings.append(f"{path}:{line_of(text, found.start())}: {found.group(0)}")
    return findings
