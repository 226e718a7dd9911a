"""The texts that the rules look at, and the few ways of reading them that rules share.

A tree is a dictionary from the path inside the repository to the text. The rules never open a file
themselves, so that their self-checks can give them a tree of a few lines.
"""

import pathlib
import re
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

CPP = (".cpp", ".h")
# Texts that are not ours to write: licences.
FOREIGN = re.compile(r"^(LICENSE|LICENSES/.*)$")


def read_tree(root=REPOSITORY):
    """Every text file that git knows or would take; without git, all outside build folders."""
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files", "-z", "--cached",
         "--others", "--exclude-standard"], capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        paths = sorted(set(filter(None, listing.stdout.split("\0"))))
    else:
        skipped = re.compile(r"(^|/)(build[^/]*|\.git|__pycache__|\.pytest_cache)/")
        paths = sorted(p for p in (str(f.relative_to(root)) for f in root.rglob("*"))
                       if not skipped.search(p))
    tree = {}
    for path in paths:
        if FOREIGN.match(path) or not (root / path).is_file():
            continue
        try:
            tree[path] = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not a text
    return tree


def interpreter(path, text):
    """What runs a script: "python", "shell" or "" for what is no script."""
    first = text.split("\n", 1)[0]
    if path.endswith(".py") or (first.startswith("#!") and "python" in first):
        return "python"
    if path.endswith(".sh") or re.match(r"#!.*\b(ba|da)?sh\b", first):
        return "shell"
    return ""


def is_code(path, text):
    return (path.endswith(CPP) or path.endswith((".cmake", "CMakeLists.txt"))
            or interpreter(path, text) != "")


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
                   r"|(?<![0-9A-Za-z])'(?:\\.|[^'\\\n])+'", re.DOTALL)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def code_only(text):
    """C++ with comments and the insides of strings and characters blanked; lines stay in place."""
    def without(match):
        found = match.group(0)
        return found[0] + blank(found[1:-1]) + found[0] if found[0] in "\"'" else blank(found)

    return TOKEN.sub(without, text)


def comments_only(text):
    """The comments of C++ text, everything else blanked."""
    kept, end = [], 0
    for found in TOKEN.finditer(text):
        is_comment = found.group(0).startswith("/")
        kept.append(blank(text[end:found.start()]))
        kept.append(found.group(0) if is_comment else blank(found.group(0)))
        end = found.end()
    return "".join(kept) + blank(text[end:])


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def head_comment(text):
    """The lines of the comment at the top of a file, a script's first line left out."""
    lines = text.split("\n")
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    if lines and lines[0].startswith('"""'):
        body = "\n".join(lines)
        return body[:body.find('"""', 3) + 3]
    head = []
    for line in lines:
        if not line.startswith(("//", "#")) or line.startswith(("#include", "#pragma", "#define")):
            break
        head.append(line)
    return "\n".join(head)


def sections(text):
    """The parts of a Markdown text by their second-level titles."""
    parts = re.split(r"^## +(.*)$", text, flags=re.MULTILINE)
    return {title.strip(): body for title, body in zip(parts[1::2], parts[2::2])}


def first_column(text):
    """The words in backticks that begin the rows of Markdown tables, with their cells."""
    rows = {}
    for line in text.split("\n"):
        found = re.match(r"\| *`([^`]+)` *\|", line)
        if found:
            rows[found.group(1)] = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return rows
