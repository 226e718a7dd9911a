"""Rules about code: who may include whom, what the packet path may not do, size and form."""

import ast
import re
import subprocess

from rule import registry
from tree import CPP, REPOSITORY, code_only, head_comment, interpreter, is_code, line_of

RULES, rule = registry()

# --- who may include whom ------------------------------------------------------------------------

# A folder may include folders of lower rank and itself. Equal rank means: neither the other.
RANK = {"wire": 0, "core": 1, "bpf": 2, "engine": 2, "slow": 2, "policy": 2,
        "helpers": 3, "gateway": 4,
        "compat": 5, "cli": 6}
# The simulator is not part of the gateway: it sees what it drives, and nothing sees it.
SIMULATOR_SEES = {"wire", "core", "engine", "slow", "policy", "helpers", "sim"}
# Of the kernel's shell, user space shares the layout of the maps and nothing else.
SHARED_OF_BPF = "bpf/layout.h"


@rule("include-direction",
      "Includes point one way: wire, core, {bpf engine policy}, helpers, gateway, compat, cli.",
      bad=[{"src/compat/a.h": '#include "cli/b.h"\n'},
           {"src/core/a.h": '#include "gateway/b.h"\n'},
           {"src/policy/a.h": '#include "gateway/state.h"\n'},
           {"src/engine/a.h": '#include "bpf/layout.h"\n'},
           {"src/gateway/a.h": '#include "bpf/maps.h"\n'},
           {"src/gateway/a.h": '#include "sim/clock.h"\n'},
           {"src/gateway/a.h": '#include "netlink.h"\n'}],
      good={"src/core/a.h": '#include "wire/b.h"\n// #include "cli/c.h"\n',
            "src/gateway/main/a.cpp": '#include <new>\n#include "bpf/layout.h"\n',
            "src/sim/a.cpp": '#include "engine/b.h"\n',
            "tests/unit/a.cpp": '#include "core/b.h"\n'})
def include_direction(tree):
    findings = []
    for path, text in tree.items():
        if not path.startswith("src/") or not path.endswith(CPP):
            continue
        mine = path.split("/")[1]
        for found in re.finditer(r'^ *#include +"([^"]+)"', text, re.MULTILINE):
            target = found.group(1)
            its = target.split("/")[0]
            where = f"{path}:{line_of(text, found.start())}"
            if mine == "sim":
                allowed = its in SIMULATOR_SEES
            else:
                allowed = its == mine or (its in RANK and RANK[its] < RANK.get(mine, -1))
            if its == "bpf" and mine != "bpf" and target != SHARED_OF_BPF:
                allowed = False
            if not allowed:
                findings.append(f'{where}: {mine} may not include "{target}"')
    return findings


@rule("include-dead", "Every header is included by somebody, except those that only explain.",
      bad=[{"src/core/a.h": "// A.\n#pragma once\nint a;\n"}],
      good={"src/core/a.h": "// A.\n#pragma once\nint a;\n",
            "src/core/b.cpp": '#include "core/a.h"',
            "src/core/world.h": "// Only words.\n#pragma once\n"})
def include_dead(tree):
    included = {target for text in tree.values()
                for target in re.findall(r'#include +"([^"]+)"', text)}
    findings = []
    for path, text in tree.items():
        if not path.startswith("src/") or not path.endswith(".h"):
            continue
        is_empty = not code_only(text).replace("#pragma once", "").strip()
        if path.removeprefix("src/") not in included and not is_empty:
            findings.append(f"{path}:1: no file includes this header")
    return findings


@rule("include-freestanding", "wire and core use no header of the system; bpf uses <linux/...>.",
      bad=[{"src/wire/a.h": "#include <cstdint>\n"}, {"src/bpf/a.h": "#include <string.h>\n"}],
      good={"src/bpf/a.h": "#include <linux/bpf.h>\n", "src/engine/a.h": "#include <vector>\n"})
def include_freestanding(tree):
    findings = []
    for path, text in tree.items():
        if not path.startswith(("src/wire/", "src/core/", "src/bpf/")):
            continue
        for found in re.finditer(r"^ *#include +<([^>]+)>", text, re.MULTILINE):
            if path.startswith("src/bpf/") and found.group(1).startswith("linux/"):
                continue
            findings.append(
                f"{path}:{line_of(text, found.start())}: <{found.group(1)}> is not for this folder")
    return findings


# --- what code may not do ------------------------------------------------------------------------


def search_code(tree, wanted, pattern, sentence):
    """The places where `pattern` occurs in the code of C++ files whose path `wanted` accepts."""
    findings = []
    for path, text in tree.items():
        if not path.endswith(CPP) or not wanted(path):
            continue
        for found in re.finditer(pattern, code_only(text)):
            word = found.group(0).strip(" (")
            findings.append(f"{path}:{line_of(text, found.start())}: `{word}` {sentence}")
    return findings


PACKET_PATH = ("src/wire/", "src/core/", "src/bpf/", "src/engine/")


@rule("packet-path",
      "wire, core, bpf and engine neither throw nor catch, ask for no type and call no `new`.",
      bad=[{"src/core/a.h": "void f() { throw 1; }\n"}, {"src/engine/a.cpp": "auto* a = new A;\n"},
           {"src/wire/a.h": "try {\n}\n"}, {"src/bpf/a.h": "dynamic_cast<A*>(b)"},
           {"src/engine/a.h": "typeid(a)"}, {"src/core/a.h": "malloc(4)"}],
      good={"src/core/a.h": "// a new flow; try again\nu32 new_flow;\n",
            "src/gateway/a.cpp": "throw 1;\n"})
def packet_path(tree):
    return search_code(tree, lambda path: path.startswith(PACKET_PATH),
                       r"\b(throw|try|catch|dynamic_cast|typeid)\b|\bnew (?=[A-Za-z(])"
                       r"|\b(malloc|calloc|realloc)\(", "has no place on the packet path")


@rule("banned-calls", "No time(), rand(), getenv(), system() or sleep() outside the gateway.",
      bad=[{"src/cli/a.cpp": "long t = time(nullptr);\n"}, {"src/core/a.h": "if (rand() > 1)\n"},
           {"src/policy/a.cpp": 'std::getenv("A");'}, {"src/engine/a.cpp": 'system("ls");'},
           {"src/compat/a.cpp": "sleep(1);"}],
      good={"src/gateway/a.cpp": "getenv(\"A\");\n", "src/core/a.h": "// time(2)\nset_time(1);\n"})
def banned_calls(tree):
    return search_code(
        tree, lambda path: path.startswith("src/") and not path.startswith("src/gateway/"),
        r"(?<![\w.>])(time|s?rand|random|getenv|system|u?sleep)\(",
        "takes what should be handed in; only src/gateway asks the system")


# --- size ----------------------------------------------------------------------------------------

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
EXCUSE = "Long because"  # how a comment begins that says why


@rule("file-length", f"A file over {FILE_LINES_MAX} lines says why at its head: '{EXCUSE} ...'.",
      bad=[{"src/core/a.h": "// A.\n" + "int a;\n" * FILE_LINES_MAX}],
      good={"src/core/a.h": f"// {EXCUSE} it is.\n" + "int a;\n" * FILE_LINES_MAX,
            "src/core/b.h": "// B.\n" * FILE_LINES_MAX})
def file_length(tree):
    return [f"{path}:1: {text.count(chr(10))} lines and no word why"
            for path, text in tree.items()
            if is_code(path, text) and text.count("\n") > FILE_LINES_MAX
            and EXCUSE not in head_comment(text)]


CONTAINER = re.compile(r"\b(namespace|struct|class|union|enum)\b|^\s*extern\b")
CONTROL = re.compile(r"\b(if|for|while|switch|do|else|try|catch)\b\s*$"
                     r"|\b(if|for|while|switch)\s*\(")


def cpp_functions(text):
    """(first line, last line) of every function definition that is not inside another function."""
    code = re.sub(r"^ *#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  code_only(text), flags=re.MULTILINE)
    functions, stack, head = [], [], 0
    for found in re.finditer(r"[{};]", code):
        at = found.start()
        if code[at] == "{":
            words = code[head:at].strip()
            start = head + len(code[head:at]) - len(code[head:at].lstrip())
            inside = any(kind == "function" for kind, _ in stack)
            if inside or "(" not in words:
                kind = "container" if CONTAINER.search(words) and not inside else "block"
            elif words.endswith("=") or CONTROL.search(words):
                kind = "block"
            elif CONTAINER.search(words) and not re.search(r"\)[^()]*$", words):
                kind = "container"
            else:
                kind = "function"
            stack.append((kind, start))
        elif code[at] == "}" and stack:
            kind, start = stack.pop()
            if kind == "function":
                functions.append((line_of(code, start), line_of(code, at)))
        head = at + 1
    return functions


def python_functions(text):
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []  # the rule about syntax says so
    return [(node.lineno, node.end_lineno) for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


LONG_BODY = "  a();\n" * FUNCTION_LINES_MAX


@rule("function-length",
      f"A function over {FUNCTION_LINES_MAX} lines says why above it: '{EXCUSE} ...'.",
      bad=[{"src/core/a.h":
            f"namespace m {{\nstruct S {{\nint f(int b) const {{\n{LONG_BODY}}}\n}};\n}}\n"},
           {"src/core/a.h": f"template <class T>\nT f(T b)\n{{\n{LONG_BODY}}}\n"},
           {"tests/a.py": "def f():\n" + LONG_BODY.replace(";", "")}],
      good={"src/core/a.h": f"// {EXCUSE} it is.\nint f() {{\n{LONG_BODY}}}\n",
            "src/core/b.h": "struct S {\n" + "  int a;\n" * 90 + "};\n",
            "src/core/c.h": ("int f() {\n" + "  a();\n" * 50 + "}\n") * 2})
def function_length(tree):
    findings = []
    for path, text in tree.items():
        if path.endswith(CPP):
            functions = cpp_functions(text)
        elif interpreter(path, text) == "python":
            functions = python_functions(text)
        else:
            continue
        lines = text.split("\n")
        for first, last in functions:
            above = "\n".join(lines[max(0, first - 6):first + 2])
            if last - first + 1 > FUNCTION_LINES_MAX and EXCUSE not in above:
                findings.append(f"{path}:{first}: a function of {last - first + 1} lines")
    return findings


COLUMNS_MAX = 100


@rule("columns", f"Code keeps to {COLUMNS_MAX} columns.",
      bad=[{"src/core/a.h": "// " + "a" * 98 + "\n"}, {"x/CMakeLists.txt": "a" * 101}],
      good={"src/core/a.h": "a" * 100 + "\n", "README.md": "a" * 200})
def columns(tree):
    return [f"{path}:{number}: {len(line)} columns"
            for path, text in tree.items() if is_code(path, text)
            for number, line in enumerate(text.split("\n"), 1) if len(line) > COLUMNS_MAX]


# --- form ----------------------------------------------------------------------------------------


@rule("head-comment", "Every file of code, every list, every packet script begins with a comment.",
      bad=[{"src/core/a.h": "#pragma once\n"}, {"tests/a.py": "import os\n"},
           {"run": "#!/bin/sh\nls\n"}, {"CMakeLists.txt": "project(a)\n"},
           {"tests/packets/a.pkt": "1 in lan udp\n"}],
      good={"src/core/a.h": "// A.\n#pragma once\n", "tests/a.py": '"""A."""\n',
            "run": "#!/bin/sh\n# Runs.\nls\n", "README.md": "# Title\n"})
def head_comment_rule(tree):
    return [f"{path}:1: begins without a comment that says what it is"
            for path, text in tree.items()
            if (is_code(path, text) or path.endswith((".pkt", "packages.txt"))) and text.strip()
            and not head_comment(text)]


@rule("pragma-once", "Every header says #pragma once before anything else.",
      bad=[{"src/core/a.h": "// A.\n#include <b>\n#pragma once\n"}],
      good={"src/core/a.h": "// A.\n\n#pragma once\n#include <b>\n"})
def pragma_once(tree):
    return [f"{path}:1: #pragma once is not the first directive"
            for path, text in tree.items()
            if path.endswith(".h") and not code_only(text).lstrip().startswith("#pragma once")]


LEFTOVERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")


@rule("leftovers", "Nothing is left for later in the text; what is missing stands in README.md.",
      bad=[{"src/core/a.h": "// TO" "DO: later\n"}, {"README.md": "FIX" "ME\n"}],
      good={"src/core/a.h": "// What todo lists are for.\n"})
def leftovers(tree):
    return [f"{path}:{line_of(text, found.start())}: {found.group(0)}"
            for path, text in tree.items() for found in LEFTOVERS.finditer(text)]


@rule("white-space", "No tabs in code, no spaces at the end of a line, one newline at the end.",
      bad=[{"src/core/a.h": "// A. \n"}, {"a.md": "# A"}, {"src/core/a.h": "// A.\n\tint a;\n"},
           {"a.md": "# A\n\n"}],
      good={"src/core/a.h": "// A.\n", "src/core/b.h": ""})
def white_space(tree):
    findings = []
    for path, text in tree.items():
        for number, line in enumerate(text.split("\n"), 1):
            # In a patch, a line that holds one space is an empty line that stays.
            if line != line.rstrip() and not (path.endswith(".patch") and line == " "):
                findings.append(f"{path}:{number}: spaces at the end of the line")
            if "\t" in line and is_code(path, text):
                findings.append(f"{path}:{number}: a tab")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            findings.append(f"{path}:{line_of(text, len(text))}: ends without exactly one newline")
    return findings


def formatted(text):
    """What clang-format makes of it; None if clang-format cannot be run."""
    try:
        done = subprocess.run(
            ["clang-format-14", f"--style=file:{REPOSITORY / '.clang-format'}",
             "--assume-filename=a.cpp"], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


@rule("clang-format", "C++ is laid out as clang-format 14 lays it out by .clang-format.",
      bad=[{"src/core/a.h": "int  a ;\n"}], good={"src/core/a.h": "int a;\n"})
def clang_format(tree):
    findings = []
    for path, text in tree.items():
        if not path.endswith(CPP):
            continue
        wanted = formatted(text)
        if wanted is None:
            return [f"{path}:1: clang-format-14 cannot be run; install clang-format-14"]
        if wanted != text:
            pairs = zip(text.split("\n") + [""], wanted.split("\n") + [""])
            number = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
            findings.append(f"{path}:{number}: clang-format-14 -i {path} lays this out differently")
    return findings


@rule("script-syntax", "Every script parses.",
      bad=[{"run": "#!/bin/bash\nif true\n"}, {"tests/a.py": "def f(:\n"}],
      good={"run": "#!/bin/bash\nls\n", "tests/a.py": "a = 1\n"})
def script_syntax(tree):
    findings = []
    for path, text in tree.items():
        kind = interpreter(path, text)
        if kind == "shell":
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True,
                                  check=False)
            if done.returncode != 0:
                findings.append(f"{path}:1: {done.stderr.strip().splitlines()[0]}")
        elif kind == "python":
            try:
                compile(text, path, "exec", dont_inherit=True)
            except SyntaxError as mistake:
                findings.append(f"{path}:{mistake.lineno}: {mistake.msg}")
    return findings
