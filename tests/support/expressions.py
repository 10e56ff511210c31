"""GitHub's expressions, `${{ … }}`, as far as our workflows use them: names, texts, ==, !=, !, &&, || and brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign>==|!=|&&|\|\||[!()])|(?P<name>[A-Za-z_][\w.-]*))")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STATUS = ("success", "failure", "always", "cancelled")


class NotUnderstood(Exception):
    """The expression uses something that this evaluator does not know: teach it, or the test would guess."""


def filled(template: object, contexts: Mapping[str, Any]) -> str:
    """A value of a workflow with its expressions replaced."""
    return EXPRESSION.sub(lambda match: _as_text(evaluate(match[1], contexts)), _as_text(template))


def holds(condition: object, contexts: Mapping[str, Any], succeeded: bool = True) -> bool:
    """Whether an `if` lets a job or a step run. Without one of GitHub's status functions, only after success."""
    if condition is None:
        return succeeded
    text = str(condition).strip().removeprefix("${{").removesuffix("}}")
    status = {"success": succeeded, "failure": not succeeded, "always": True, "cancelled": False}
    named = any(f"{name}()" in text for name in STATUS)
    return bool(evaluate(text, {**contexts, "status": status})) and (named or succeeded)


def evaluate(text: str, contexts: Mapping[str, Any]) -> Any:
    """The value of one expression. A name of a context that holds no such value is empty, as on GitHub."""
    tokens = [*_tokens(text), ("end", "")]
    value, rest = _or(tokens, contexts)
    if rest[0][0] != "end":
        raise NotUnderstood(text)
    return value


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, text = 0, text.strip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise NotUnderstood(text)
        at = match.end()
        yield str(match.lastgroup), str(match[str(match.lastgroup)])


Tokens = list[tuple[str, str]]


def _or(tokens: Tokens, contexts: Mapping[str, Any]) -> tuple[Any, Tokens]:
    value, tokens = _and(tokens, contexts)
    while tokens[0] == ("sign", "||"):
        other, tokens = _and(tokens[1:], contexts)
        value = value or other
    return value, tokens


def _and(tokens: Tokens, contexts: Mapping[str, Any]) -> tuple[Any, Tokens]:
    value, tokens = _equal(tokens, contexts)
    while tokens[0] == ("sign", "&&"):
        other, tokens = _equal(tokens[1:], contexts)
        value = value and other
    return value, tokens


def _equal(tokens: Tokens, contexts: Mapping[str, Any]) -> tuple[Any, Tokens]:
    value, tokens = _single(tokens, contexts)
    if tokens[0] in (("sign", "=="), ("sign", "!=")):
        other, rest = _single(tokens[1:], contexts)
        same = _as_text(value).lower() == _as_text(other).lower()
        return same == (tokens[0][1] == "=="), rest
    return value, tokens


def _single(tokens: Tokens, contexts: Mapping[str, Any]) -> tuple[Any, Tokens]:
    kind, token = tokens[0]
    if (kind, token) == ("sign", "!"):
        value, rest = _single(tokens[1:], contexts)
        return not value, rest
    if (kind, token) == ("sign", "("):
        value, rest = _or(tokens[1:], contexts)
        if rest[0] != ("sign", ")"):
            raise NotUnderstood(f"a bracket is open after {token}")
        return value, rest[1:]
    if kind == "text":
        return token[1:-1].replace("''", "'"), tokens[1:]
    if kind == "name" and token in STATUS and tokens[1:3] == [("sign", "("), ("sign", ")")]:
        return contexts["status"][token], tokens[3:]
    if kind == "name":
        return _named(token, contexts), tokens[1:]
    raise NotUnderstood(token)


def _named(path: str, contexts: Mapping[str, Any]) -> Any:
    if path in ("true", "false"):
        return path == "true"
    first, *rest = path.split(".")
    if first not in contexts:
        raise NotUnderstood(f"there is no context {first} here")
    value = contexts[first]
    for name in rest:
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return value


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
