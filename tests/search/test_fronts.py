"""Two goals at once: fronts, and an order whose first members cover the best front."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gru_optuna.search.fronts import fronts, order

_GOALS = st.tuples(
    st.integers(0, 9).map(float) | st.floats(0, 1) | st.just(math.inf), st.integers(1, 9)
)
_POINTS = st.lists(_GOALS, max_size=40)

Point = tuple[float, float]


def dominates(one: Point, other: Point) -> bool:
    """What isn't finite is dominated by all that is, however small it is."""
    if math.isinf(other[0]) and math.isfinite(one[0]):
        return True
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(_POINTS)
def test_fronts_are_those_of_their_definition(points: list[Point]) -> None:
    left, expected = set(range(len(points))), []
    while left:
        front = {
            n for n in left if not any(dominates(points[other], points[n]) for other in left - {n})
        }
        expected.append(front)
        left -= front
    assert [set(front) for front in fronts(points)] == expected


@given(_POINTS)
def test_the_order_goes_front_by_front_and_begins_with_the_best_first_goal(
    points: list[Point],
) -> None:
    found = order(points)
    assert sorted(found) == list(range(len(points)))
    place = 0
    for front in fronts(points):
        members = found[place : place + len(front)]
        assert set(members) == set(front)
        assert points[members[0]] == min(points[n] for n in front)
        place += len(front)


@given(st.lists(st.tuples(st.integers(0, 99).map(float), st.integers(1, 99)), max_size=40))
def test_the_order_depends_on_no_scale(points: list[Point]) -> None:
    stretched = [(first * 1000.0 + 7.0, math.log(second)) for first, second in points]
    assert order(stretched) == order(points)


def test_the_first_members_of_a_front_cover_it() -> None:
    front = [(float(n), 10.0 - n) for n in range(9)]
    assert order(front)[:5] == [0, 8, 4, 2, 6]
    assert order([*front, (9.0, 9.0)])[-1] == 9


def test_equal_points_stand_together_in_the_given_order() -> None:
    assert order([(1.0, 2.0), (0.0, 3.0), (1.0, 2.0)]) == [1, 0, 2]
