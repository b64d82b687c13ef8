"""The token bucket: a burst at once, then as many as time gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from byheart_server.http_server import rate_limit
from byheart_server.http_server.rate_limit import Bucket, RateLimit, draw


def test_a_burst_is_admitted_at_once_and_no_more() -> None:
    limit = RateLimit(rate=10, burst=3)
    assert [limit.wait("ana", now=0) for _ in range(4)] == [0, 0, 0, 0.1]


def test_time_brings_more_up_to_the_burst() -> None:
    assert draw(Bucket(0, at=0), now=0.5, rate=2, burst=5) == (Bucket(0, at=0.5), 0)
    assert draw(Bucket(0, at=0), now=1_000, rate=2, burst=5) == (Bucket(4, at=1_000), 0)


def test_callers_have_buckets_of_their_own() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert limit.wait("ana", now=0) == limit.wait("ben", now=0) == 0
    assert limit.wait("ana", now=0) == 1


def test_buckets_are_bounded() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(rate_limit.MOST_CALLERS + 1):
        limit.wait(f"address {number}", now=0)
    assert limit.wait(f"address {rate_limit.MOST_CALLERS}", now=0) == 1
    assert limit.wait("address 0", now=0) == 0


@given(st.lists(st.floats(0, 3), max_size=200))
def test_no_more_than_burst_and_rate_are_ever_admitted(pauses: list[float]) -> None:
    limit, now, admitted = RateLimit(rate=2, burst=4), 0.0, 0
    for pause in pauses:
        now += pause
        admitted += limit.wait("ana", now) == 0
    assert admitted <= 4 + 2 * now + 1e-6
