"""Contractions with up to five letters, each in two of the three terms or in all."""

from __future__ import annotations

from hypothesis import strategies as st

from funcgrad.ops.contract import contraction
from tests.cases.base import Case, normal


@st.composite
def specs(draw: st.DrawFn, max_letters: int = 5) -> str:
    letters = "abcdefgh"[: draw(st.integers(0, max_letters))]
    terms: list[list[str]] = [[], [], []]
    for letter in letters:
        for place in draw(st.sampled_from([(0, 1), (0, 2), (1, 2), (0, 1, 2)])):
            terms[place].append(letter)
    first, second, out = ("".join(draw(st.permutations(term))) for term in terms)
    return f"{first},{second}->{out}"


@st.composite
def contractions(draw: st.DrawFn) -> Case:
    spec = draw(specs())
    sizes = {letter: draw(st.integers(0, 3)) for letter in sorted(set(spec)) if letter.isalpha()}
    primitive = contraction(spec)
    x1, x2 = (draw(normal(tuple(sizes[letter] for letter in term))) for term in primitive.terms[:2])
    return Case(primitive, (x1, x2))


CASES = {"contract": contractions()}
