"""Suggestions: what a mistyped name may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(
    name: str,
    choices: Iterable[str],
    *,
    otherwise: str = "",
    most: int = 1,
    cutoff: float = 0.6,
) -> str:
    """Suggest what a name may stand for, in words that end an error message.

    Parameters
    ----------
    name
        The name that is not there.
    choices
        The names that are.
    otherwise
        What the message says instead where none of them is near.
    most
        How many of them are suggested at most.
    cutoff
        How alike two names must be, from 0 to 1, as `difflib.get_close_matches` measures it.

    Returns
    -------
    str
        ``; did you mean 'NAME'?``, or ``; `` and `otherwise`, or nothing.
    """
    near = get_close_matches(name, list(choices), n=most, cutoff=cutoff)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else otherwise
    return f"; {hint}" if hint else ""
