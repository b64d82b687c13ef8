"""Labelled questions, split so that nothing of the test or the development part is trained on.

What belongs together stays together: questions with a common answer or the same words, whole
namespaces where there are enough of them, else whole sessions as far as that goes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from byheart_retrain.queries import LabelledQuery
from byheart_retrain.queries.linking import linked, words

FEWEST_GROUPS = 5
"""So many namespaces or sessions, else three parts of them are far from the sizes aimed at."""

FEWEST_TESTED = 30
"""A gate tells little of fewer questions."""

SAME_WORDS = 0.8
"""Questions are the same from this share of common words on, in the sense of Jaccard."""

_TOO_LARGE = 3.0
"""A question too many to test with is one that nothing is learnt from."""
_ASSIGNMENTS = 2_000
_MOST_DRAWS = 4
_PUBLISHED_SEED = 42


@dataclass(frozen=True, slots=True)
class Split:
    """The questions to train on, to stop and choose by, and to test the result with."""

    train: list[LabelledQuery]
    dev: list[LabelledQuery]
    test: list[LabelledQuery]


@dataclass(frozen=True, slots=True)
class _Aim:
    """The number of questions that a part should have, and the least that it is any good with."""

    size: float
    least: float
    too_large: float = 0.0

    def miss(self, types: Counter[str], shares: Mapping[str, float]) -> float:
        """How far a part's types are from the whole's at the size aimed at, as chi-squared."""
        missed = sum(
            (types[name] - self.size * share) ** 2 / (self.size * share)
            for name, share in shares.items()
        )
        excess = max(0.0, types.total() - self.size)
        return missed + self.too_large * excess**2 / self.size


def split(
    queries: Sequence[LabelledQuery], sessions: Mapping[str, str | None], *, seed: int = 0
) -> Split:
    """Split questions by namespace, session or common answers, each type in proportion.

    `sessions` are those of the memories. No two parts have a gold memory or a question's words in
    common. The same seed gives the same parts, in whatever order the questions come.

    The test part has a tenth of the questions, but at least 100 or three tenths of few; the
    development part a tenth, but at least 50 or 15%. A gate tells a gain from chance only with
    many questions, and of few labels those tell most that measure.
    """
    ordered = sorted(queries, key=_key)
    if not ordered:
        return Split([], [], [])
    groups = _groups(ordered, sessions)
    types = [Counter(_type(query) for query in group) for group in groups]
    aims = _aims(len(ordered))
    draw = random.Random(seed)
    draws = [_assigned(types, aims, draw) for _ in range(_draws(len(groups)))]
    chosen = min(draws, key=lambda parts: _missed(types, parts, aims))
    _top_up(types, chosen, aims)
    members: list[list[LabelledQuery]] = [[], [], []]
    for group, part in zip(groups, chosen, strict=True):
        members[part] += group
    return Split(*(sorted(part, key=_key) for part in members))


def longmemeval_split(
    queries: Sequence[LabelledQuery],
) -> tuple[list[LabelledQuery], list[LabelledQuery]]:
    """The questions of LongMemEval held out by the published split, and the rest.

    A fifth of each type, rounded up, the types in alphabetical order, all drawn with seed 42.
    """
    draw = random.Random(_PUBLISHED_SEED)
    held_out: set[int] = set()
    for name in sorted({_type(query) for query in queries}):
        keys = [position for position, query in enumerate(queries) if _type(query) == name]
        draw.shuffle(keys)
        held_out.update(keys[: -(-len(keys) // 5)])
    return (
        [query for position, query in enumerate(queries) if position in held_out],
        [query for position, query in enumerate(queries) if position not in held_out],
    )


def _key(query: LabelledQuery) -> tuple[str, str, str, list[str]]:
    return query.id, query.namespace or "", query.text, sorted(query.gold)


def _type(query: LabelledQuery) -> str:
    return query.type or ""


def _groups(
    queries: Sequence[LabelledQuery], sessions: Mapping[str, str | None]
) -> list[list[LabelledQuery]]:
    """What goes to a part as a whole, in an order that depends on the questions alone."""
    components = _components(queries)
    keys = _by_namespace(components) or _by_session(components, sessions)
    groups: dict[str, list[LabelledQuery]] = {}
    for number, component in enumerate(components):
        key = keys[number] if keys else str(number)
        groups.setdefault(key, []).extend(component)
    return list(groups.values())


def _components(queries: Sequence[LabelledQuery]) -> list[list[LabelledQuery]]:
    """Questions linked by a gold memory or by the same words, in whatever namespaces."""
    alike = _alike({frozenset(words(query.text)) for query in queries})
    own = [{_words_key(query)} | {f"m {memory}" for memory in query.gold} for query in queries]
    root = linked([*own, *alike])
    components: dict[str, list[LabelledQuery]] = {}
    for query in queries:
        components.setdefault(root[_words_key(query)], []).append(query)
    return list(components.values())


def _words_key(query: LabelledQuery) -> str:
    return _set_key(frozenset(words(query.text)))


def _set_key(one: frozenset[str]) -> str:
    return "w " + " ".join(sorted(one))


def _alike(sets: Collection[frozenset[str]]) -> Iterator[set[str]]:
    """The keys of each two sets with a Jaccard similarity of at least `SAME_WORDS`.

    Such sets share one of the rarest words of each, so no others need be compared (prefix
    filtering; Bayardo, Ma and Srikant 2007).
    """
    rarity = Counter(word for one in sets for word in one)
    seen: dict[str, list[frozenset[str]]] = {}
    for one in sets:
        rarest = sorted(one, key=lambda word: (rarity[word], word))
        # Without this many words, too few are left to be shared.
        prefix = rarest[: len(one) - math.ceil(SAME_WORDS * len(one) - 1e-9) + 1]
        for other in {other for word in prefix for other in seen.get(word, ())}:
            if len(one & other) >= SAME_WORDS * len(one | other) - 1e-9:
                yield {_set_key(one), _set_key(other)}
        for word in prefix:
            seen.setdefault(word, []).append(one)


def _by_namespace(components: Sequence[Sequence[LabelledQuery]]) -> list[str] | None:
    """Each component's group of whole namespaces; None where there are too few.

    Namespaces that ask the same are one, for no question may stand on two sides.
    """
    keys = [
        {f"n {query.namespace}" for query in component if query.namespace is not None}
        or {f"c {number}"}
        for number, component in enumerate(components)
    ]
    root = linked(keys)
    if len({one for name, one in root.items() if name.startswith("n ")}) < FEWEST_GROUPS:
        return None
    return [root[min(names)] for names in keys]


def _by_session(
    components: Sequence[Sequence[LabelledQuery]], sessions: Mapping[str, str | None]
) -> list[str] | None:
    """Each component's group, that of the session with most of its gold memories; None if few.

    Questions with answers in several sessions would chain all sessions into one.
    """
    counts = [_sessions(component, sessions) for component in components]
    if len(set().union(*counts)) < FEWEST_GROUPS:
        return None
    return [
        min(count, key=lambda name: (-count[name], name)) if count else f"c {number}"
        for number, count in enumerate(counts)
    ]


def _sessions(
    component: Iterable[LabelledQuery], sessions: Mapping[str, str | None]
) -> Counter[str]:
    gold = {(query.namespace or "", memory) for query in component for memory in query.gold}
    named = ((namespace, sessions.get(memory)) for namespace, memory in gold)
    return Counter(f"s {namespace}\0{name}" for namespace, name in named if name is not None)


def _aims(count: int) -> list[_Aim]:
    test = max(0.1 * count, min(100, 0.3 * count))
    dev = max(0.1 * count, min(50, 0.15 * count))
    return [
        _Aim(count - test - dev, 1),
        _Aim(dev, 1, _TOO_LARGE),
        _Aim(test, min(FEWEST_TESTED, test), _TOO_LARGE),
    ]


def _draws(groups: int) -> int:
    """Few groups fit well or badly by chance, many fit well anyway."""
    return max(1, min(_MOST_DRAWS, _ASSIGNMENTS // groups))


def _assigned(
    types: Sequence[Counter[str]], aims: Sequence[_Aim], draw: random.Random
) -> list[int]:
    """The part of each group: in turn, the one that it brings nearest to its aim.

    The large go first and the small fill up, but which of about a size go first is drawn.
    """
    order = draw.sample(range(len(types)), len(types))
    order.sort(key=lambda position: -types[position].total().bit_length())
    shares = _shares(types)
    parts: list[Counter[str]] = [Counter() for _ in aims]
    missed = [aim.miss(part, shares) for aim, part in zip(aims, parts, strict=True)]
    chosen = [0] * len(types)
    for position in order:
        after = [
            aim.miss(part + types[position], shares) for aim, part in zip(aims, parts, strict=True)
        ]
        best = min(range(len(aims)), key=lambda part: after[part] - missed[part])
        chosen[position] = best
        parts[best] += types[position]
        missed[best] = after[best]
    return chosen


def _shares(types: Iterable[Counter[str]]) -> dict[str, float]:
    whole: Counter[str] = Counter()
    for one in types:
        whole.update(one)
    return {name: count / whole.total() for name, count in whole.items()}


def _missed(types: Sequence[Counter[str]], chosen: Sequence[int], aims: Sequence[_Aim]) -> float:
    shares = _shares(types)
    parts: list[Counter[str]] = [Counter() for _ in aims]
    for one, part in zip(types, chosen, strict=True):
        parts[part].update(one)
    return sum(aim.miss(part, shares) for aim, part in zip(aims, parts, strict=True))


def _top_up(types: Sequence[Counter[str]], chosen: list[int], aims: Sequence[_Aim]) -> None:
    """Move groups out of the train part into parts too small to be any good, while it is larger."""
    sizes = [one.total() for one in types]
    for part in (2, 1):
        while (lack := aims[part].least - _size(sizes, chosen, part)) > 0:
            spare = (_size(sizes, chosen, 0) - _size(sizes, chosen, part)) // 2
            movable = [n for n, size in enumerate(sizes) if chosen[n] == 0 and size <= spare]
            if not movable:
                break
            # The smallest that is enough, else the largest.
            chosen[min(movable, key=lambda n: (sizes[n] < lack, abs(sizes[n] - lack)))] = part


def _size(sizes: Sequence[int], chosen: Sequence[int], part: int) -> int:
    return sum(size for size, its_part in zip(sizes, chosen, strict=True) if its_part == part)
