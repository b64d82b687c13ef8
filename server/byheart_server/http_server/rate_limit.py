"""How many requests a caller may send: a token bucket, as a function of time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_CALLERS = 10_000
"""Buckets that are kept; beyond, the one used longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many requests were left at a moment, in seconds of any clock."""

    left: float
    at: float


def draw(bucket: Bucket, now: float, rate: float, burst: float) -> tuple[Bucket, float]:
    """The bucket after one request, and the seconds until it is admitted: 0 if it is now.

    It fills by `rate` a second up to `burst`. https://en.wikipedia.org/wiki/Token_bucket
    """
    left = min(burst, bucket.left + max(0.0, now - bucket.at) * rate)
    if left >= 1:
        return Bucket(left - 1, now), 0.0
    return Bucket(left, now), (1 - left) / rate


class RateLimit:
    """A bucket for each caller."""

    def __init__(self, rate: float, burst: float) -> None:
        """`rate` requests a second, `burst` of them at once."""
        self._rate = rate
        self._burst = max(1.0, burst)
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Count a request; the seconds until the caller may try again, 0 if it is admitted."""
        bucket = self._buckets.pop(caller, None) or Bucket(self._burst, now)
        self._buckets[caller], wait = draw(bucket, now, self._rate, self._burst)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return wait
