"""Telling mistakes in a configuration: each with its key, what was found, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from frugalseg.errors import did_you_mean

TAG = "kind"  # the field that tells settings of a union apart


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Turn pydantic's report into one line: key, what was found, what is allowed, what was probably meant."""
    problems = error.errors()
    lines = [_explain(problem, model) for problem in problems[:3]]
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(lines) + more


def _explain(problem: ErrorDetails, model: type[BaseModel]) -> str:
    place = _locate(model, problem["loc"])
    key, kind = ".".join(place.key), problem["type"]
    if kind == "extra_forbidden":
        siblings = sorted(getattr(place.owner, "model_fields", {}))
        near = difflib.get_close_matches(place.key[-1], siblings, n=1, cutoff=0.5)
        if near:
            return f"unknown key {key!r}; did you mean {'.'.join([*place.key[:-1], near[0]])!r}?"
        return f"unknown key {key!r}" + (f"; there are: {', '.join(siblings)}" if siblings else "")
    if kind == "missing":
        return f"{key!r} is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = _kinds(place.value)
        listed = f"Known: {', '.join(known)}"
        if kind == "union_tag_not_found":
            return f"'{key}.{TAG}' is missing. {listed}"
        tag = problem["ctx"]["tag"]
        return f"{key}.{TAG}: there is no {tag!r}.{did_you_mean(tag, known)} {listed}"
    given = problem.get("input")
    shown = "" if isinstance(given, dict | BaseModel) else f" (found {str(given)[:60]!r})"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key or 'settings'}: should be an object with settings{shown}"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{key or 'settings'}: {message}{shown}"


class _Place(NamedTuple):
    """A place in the configuration: its key, the model that has the key's last part, what may stand there."""

    key: list[str]
    owner: Any
    value: Any


def _locate(model: type[BaseModel], loc: Sequence[int | str]) -> _Place:
    """Follow pydantic's path; what it adds for unions (a task's kind, names of types) is no part of the key."""
    key: list[str] = []
    owner, value = None, model
    for step in loc:
        part, kinds = str(step), _kinds(value)
        if part in kinds:
            value = kinds[part]
        elif not part.startswith(("constrained-", "literal[", "tuple[", "function-")):
            key.append(part)
            owner, value = _bare(value), _inside(value, part)
    return _Place(key, owner, value)


def _inside(value: Any, part: str) -> Any:
    """Return the type of what stands under `part` in a place of type `value`, None if there is no such place."""
    value = _bare(value)
    fields = getattr(value, "model_fields", {})
    if part in fields:
        return fields[part].annotation
    return get_args(value)[1] if get_origin(value) is dict else None


def _bare(value: Any) -> Any:
    """Return a type without its annotations, and without the None that may stand in its place."""
    while get_origin(value) is Annotated:
        value = get_args(value)[0]
    others = [member for member in get_args(value) if member is not type(None)]
    if len(others) == 1 and len(get_args(value)) == 2 and get_origin(value) is not dict:
        return _bare(others[0])
    return value


def _kinds(value: Any) -> dict[str, type[BaseModel]]:
    """Return the members of a union of settings by their kind; nothing if `value` is no such union."""
    value = _bare(value)
    members = [member for member in get_args(value) if isinstance(member, type) and issubclass(member, BaseModel)]
    return {member.model_fields[TAG].default: member for member in members if TAG in member.model_fields}
