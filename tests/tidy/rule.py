"""What a rule is."""

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Rule:
    """`check` takes a tree and returns findings; each tree in `bad` must give one, `good` none."""
    sentence: str
    check: typing.Callable
    bad: list
    good: dict


def registry():
    """A dictionary of rules, and the decorator that fills it."""
    rules = {}

    def rule(name, sentence, bad, good):
        def register(check):
            rules[name] = Rule(sentence, check, bad, good)
            return check
        return register

    return rules, rule
