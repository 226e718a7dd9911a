#!/usr/bin/env python3
"""The rules of STYLE.md that a machine can check.

    tests/tidy/tidy.py            checks everything
    tests/tidy/tidy.py RULE...    checks these rules
    tests/tidy/tidy.py --list     says which rules there are

Each rule is tried twice. First on itself: a few lines that break it must be reported and a few that
keep it must not, so that no rule can stop working unnoticed. Then on the repository. Findings read
`path:line: sentence`. The last line counts; the exit code is 0 only if nothing failed.
"""

import sys

import document_rules
import source_rules
from tree import read_tree

RULES = {**source_rules.RULES, **document_rules.RULES}


def self_check(rule):
    """What is wrong with the rule itself, or nothing."""
    wrong = []
    for bad in rule.bad:
        if not rule.check(bad):
            wrong.append(f"does not report the bad example {sorted(bad)}")
    for finding in rule.check(rule.good):
        wrong.append(f"reports the good example: {finding}")
    return wrong


def on_repository(rule, tree):
    try:
        return rule.check(tree)
    except Exception as problem:  # one broken rule must not hide what the others find
        return [f"{type(problem).__name__}: {problem}"]


def main(arguments):
    if arguments == ["--list"]:
        for name, rule in RULES.items():
            print(f"{name:22} {rule.sentence}")
        return 0
    unknown = [name for name in arguments if name not in RULES]
    if unknown:
        print(f"There is no rule {', '.join(unknown)}; --list names them.", file=sys.stderr)
        return 2
    tree = read_tree()
    passed = failed = 0
    for name in arguments or RULES:
        rule = RULES[name]
        tries = (("self-check", self_check(rule)), ("rule", on_repository(rule, tree)))
        for kind, findings in tries:
            for finding in findings:
                print(f"{finding}  [{name}{', self-check' if kind == 'self-check' else ''}]")
            if findings:
                failed += 1
                print(f"failed: {name} ({kind}): {rule.sentence}")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
