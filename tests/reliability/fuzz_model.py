"""What a store must hold and answer, kept in memory and said in plain Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .fuzz_calls import Feedback, Forget, Remember

ABOUT_NOW = datetime(2026, 6, 1, tzinfo=UTC)
"""Stands for the moment of a memory that was given none; the windows asked for leave it alone."""


ORIGIN = "fuzz 1"
"""Who the server knows to have brought a memory, whatever the arguments say."""


class Divergence(AssertionError):
    """The server said something else than the model."""


def expect(found: object, wanted: object, about: object) -> None:
    """Raises Divergence unless both are equal."""
    if found != wanted:
        raise Divergence(f"{about}\n  the server: {found!r:.2000}\n  the model:  {wanted!r:.2000}")


def as_sent(value: Any) -> Any:
    """A JSON value as it arrives: surrogate pairs joined, lone surrogates replaced."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [as_sent(item) for item in value]
    if isinstance(value, dict):
        return {as_sent(name): as_sent(item) for name, item in value.items()}
    return value


def moment(text: str) -> datetime:
    """A date or time as UTC."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


@dataclass(slots=True)
class Kept:
    """A memory that the store must hold."""

    word: str
    text: str
    namespace: str
    session: str | None = None
    speaker: str | None = None
    at: datetime | None = None
    tags: list[str] = field(default_factory=list)
    source: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    replaces: str | None = None
    replaced_by: str | None = None

    @property
    def digest(self) -> tuple[str, str | None, str]:
        """Equal for what counts as the same memory."""
        return self.namespace, self.session, self.text

    def is_admitted(self, where: Mapping[str, Any]) -> bool:
        """Whether a filter admits it, replaced or not."""
        at = self.at or ABOUT_NOW
        return (
            where.get("namespace") in (None, self.namespace)
            and where.get("session") in (None, self.session)
            and set(where.get("tags") or []) <= set(self.tags)
            and (where.get("after") is None or at >= moment(where["after"]))
            and (where.get("before") is None or at < moment(where["before"]))
        )


def _is_again(new: Kept, old: Kept) -> bool:
    return old.replaced_by is None and old.digest == new.digest


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a remember answered, None for a refusal; the first try of a retried one is unheard."""

    answer: Mapping[str, Any] | None
    retried: bool

    def expect(self, status: str, name: str | None, new: Kept) -> str:
        """Check the status, and the id where it is known already; return the id."""
        expect(self.answer is None, False, new)
        assert self.answer is not None
        if self.retried and self.answer["status"] == "duplicate":
            status = "duplicate"
        expect(self.answer, {"id": name or self.answer["id"], "status": status}, new)
        given: str = self.answer["id"]
        return given


@dataclass(frozen=True, slots=True)
class Asked:
    """A recall that was answered."""

    recall_id: str
    query: str
    hits: tuple[str, ...]


class Model:
    """The memories, the keys and the labels that the answers so far amount to."""

    def __init__(self) -> None:
        self.memories: dict[str, Kept] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.labels: dict[tuple[str, str, str], bool] = {}
        self.asked: list[Asked] = []
        self.forgotten: list[str] = []
        self._words = 0

    def rare_word(self) -> str:
        """A word that no other memory has and no stemmer shortens."""
        self._words += 1
        number, word = self._words, ""
        while number:
            number, place = divmod(number, 16)
            word += "bcdfghjkmnpqrtvw"[place]
        return f"zx{word}q"

    def one(self, pick: int) -> str | None:
        """The id of a memory, by any number."""
        ids = list(self.memories)
        return ids[pick % len(ids)] if ids else None

    # remember

    def arguments_of(self, call: Remember) -> tuple[dict[str, Any], str]:
        """What is sent, and the rare word in it."""
        target = self.one(call.replaces) if call.replaces is not None else None
        again = self.memories.get(self.one(call.pick) or "") if call.again else None
        rest = {**call.rest} | ({"replaces": target} if target else {})
        if call.key:
            rest["key"] = f"key {call.pick % 7}'"
        if again:
            return rest | {
                "text": again.text,
                "namespace": again.namespace,
                "session": again.session,
            }, again.word
        word = self.rare_word()
        return rest | {"text": f"{word} {call.text} {word}"}, word

    def kept(self, arguments: Mapping[str, Any], word: str) -> Kept:
        """The memory that the arguments describe."""
        given = {name: as_sent(value) for name, value in arguments.items() if value is not None}
        target = self.memories.get(given.get("replaces", ""))
        return Kept(
            word=word,
            text=given["text"],
            namespace=given.get("namespace") or (target.namespace if target else "default"),
            session=given.get("session"),
            speaker=given.get("speaker"),
            at=moment(given["at"]) if "at" in given else None,
            tags=list(dict.fromkeys(given.get("tags", []))),
            source=given.get("source"),
            metadata=given.get("metadata", {}),
            replaces=given.get("replaces"),
        )

    def remembered(
        self,
        new: Kept,
        key: str | None,
        answer: Mapping[str, Any] | None,
        *,
        retried: bool = False,
    ) -> None:
        """Check what a remember answered, None for a refusal, and keep what it stored.

        Of what was `retried`, a first attempt may have been stored unheard.
        """
        own_id = self.keys.get((new.namespace, key)) if key else None
        stored = self.memories.get(own_id or "")
        receipt = Receipt(answer, retried)
        if stored is not None and stored.digest != new.digest:
            expect(answer, None, new)
        elif stored is not None:
            receipt.expect("duplicate", own_id, new)
        else:
            self._said(new, key, own_id, receipt)

    def _said(self, new: Kept, key: str | None, own_id: str | None, receipt: Receipt) -> None:
        first = next((name for name, old in self.memories.items() if _is_again(new, old)), None)
        target = self.memories.get(new.replaces or first or "")
        if first and (target is None or first in (new.replaces or first, target.replaced_by)):
            receipt.expect("duplicate", first, new)
        elif not self._is_replaceable(new):
            expect(receipt.answer, None, new)
        else:
            status = "replaced" if new.replaces else "stored"
            name = receipt.expect(status, first or own_id, new)
            self._stored(new, key, name, is_new=first is None)

    def _is_replaceable(self, new: Kept) -> bool:
        if new.replaces is None:
            return True
        old = self.memories.get(new.replaces)
        return old is not None and old.replaced_by is None and old.namespace == new.namespace

    def _stored(self, new: Kept, key: str | None, name: str, *, is_new: bool) -> None:
        expect(name in self.memories, not is_new, f"the id {name} of {new}")
        if is_new:
            self.memories[name] = new
        if is_new and key:
            self.keys[new.namespace, key] = name
        if new.replaces:
            self.memories[new.replaces].replaced_by = name

    # recall

    def admitted(self, where: Mapping[str, Any]) -> set[str]:
        """The current memories that a filter admits."""
        if where.get("as_of") == "0001-01-02":
            return set()
        return {
            name
            for name, kept in self.memories.items()
            if kept.replaced_by is None and kept.is_admitted(where)
        }

    def recalled(self, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Check the hits of a recall."""
        hits = answer["hits"]
        found = [hit["id"] for hit in hits]
        admitted = self.admitted(arguments)
        limit = arguments.get("limit") or 8
        expect(len(set(found)), len(found), "a memory stands twice among the hits")
        expect(set(found) - admitted, set(), f"{arguments}: recalled what it must not")
        expect(answer["degraded"], False, "degraded")
        if "max_tokens" not in arguments:
            expect(len(found), min(limit, len(admitted)), arguments)
        for hit in hits:
            self._check_hit(hit)
        wanted = next((n for n in admitted if self.memories[n].word == arguments["query"]), None)
        if wanted is not None and "max_tokens" not in arguments:
            expect(wanted in found[:3], True, f"{arguments}: not among the first, {found[:8]}")
        self.asked.append(Asked(answer["recall_id"], as_sent(arguments["query"]), tuple(found)))
        del self.asked[:-50]

    def _check_hit(self, hit: Mapping[str, Any]) -> None:
        kept = self.memories[hit["id"]]
        excerpt = hit.get("excerpt") or {"start": 0, "end": len(kept.text)}
        expect(hit["text"], kept.text[excerpt["start"] : excerpt["end"]], "the text of a hit")
        for name in ("namespace", "session", "speaker"):
            expect(hit.get(name), getattr(kept, name), f"{name} of a hit")
        expect(hit.get("tags") or [], kept.tags, "tags of a hit")
        if kept.at is not None:
            expect(moment(hit["at"]), kept.at, "at of a hit")

    # feedback

    def judged(self, call: Feedback) -> tuple[dict[str, Any], Asked]:
        """What is sent, and the recall that it is about."""
        nothing = [Asked("no recall", "", ())]
        among = self.asked or nothing
        asked = among[call.recall % len(among)]
        useful, useless = (
            [asked.hits[pick % len(asked.hits)] for pick in picks if asked.hits]
            for picks in (call.useful, call.not_useful)
        )
        useful += [call.stranger] if call.stranger is not None else []
        return {"recall_id": asked.recall_id, "useful": useful, "not_useful": useless}, asked

    def labelled(
        self, arguments: Mapping[str, Any], asked: Asked, answer: Mapping[str, Any] | None
    ) -> None:
        """Check the counts of a feedback and keep its labels."""
        useful, useless = set(arguments["useful"]), set(arguments["not_useful"])
        judged = useful | useless
        is_proper = judged and not useful & useless and judged <= set(asked.hits)
        if not is_proper or not judged <= self.memories.keys():
            expect(answer, None, arguments)
            return
        expect(answer, {"useful": len(useful), "not_useful": len(useless)}, arguments)
        for name in judged:
            key = asked.query, self.memories[name].namespace, name
            self.labels[key] = name in useful

    # forget

    def to_forget(self, call: Forget) -> dict[str, Any]:
        """What is sent: ids, or a filter where no memory is picked."""
        picked = [name for pick in call.picks if (name := self.one(pick))]
        where = {name: value for name, value in call.where.items() if value}
        ids = [*picked, *call.unknown]
        return {"dry_run": call.dry_run} | ({"ids": ids} if ids or not where else where)

    def erased(self, arguments: Mapping[str, Any], answer: Mapping[str, Any] | None) -> None:
        """Check what a forget answered and let go of what it erased."""
        ids = arguments.get("ids")
        if ids is None:
            gone = {name for name, kept in self.memories.items() if kept.is_admitted(arguments)}
        else:
            gone = {name for name in ids if name in self.memories}
        if ids is not None and not gone:
            expect(answer, None, arguments)
            return
        expect(answer and answer["count"], len(gone), arguments)
        assert answer is not None
        if ids is not None:
            missing = dict.fromkeys(as_sent(name) for name in ids if name not in self.memories)
            expect(set(answer["ids"]), gone, arguments)
            expect(answer.get("missing") or [], list(missing), arguments)
        if not arguments["dry_run"]:
            self._let_go(gone)

    def _let_go(self, gone: set[str]) -> None:
        for name in gone:
            del self.memories[name]
        self.labels = {key: value for key, value in self.labels.items() if key[2] not in gone}
        self.forgotten = [*self.forgotten, *gone][-50:]

    # the whole

    def check_memory(self, name: str, found: Mapping[str, Any]) -> None:
        """Check a memory as the store gives it in full."""
        kept = self.memories[name]
        for column in ("text", "namespace", "session", "speaker", "source"):
            expect(found.get(column), getattr(kept, column), f"{column} of {name}")
        for column in ("replaces", "replaced_by"):
            expect(found.get(column), getattr(kept, column), f"{column} of {name}")
        expect(found.get("tags") or [], kept.tags, f"tags of {name}")
        expect((found.get("client"), found.get("token")), (ORIGIN, None), f"origin of {name}")
        expect(found.get("metadata") or {}, json.loads(json.dumps(kept.metadata)), name)
        if kept.at is not None:
            expect(moment(found["at"]), kept.at, f"at of {name}")

    def check_all(
        self, memories: Mapping[str, Mapping[str, Any]], labels: Mapping[Any, bool]
    ) -> None:
        """Check that the store holds these memories and labels, and nothing else."""
        expect(sorted(memories), sorted(self.memories), "the memories in the store")
        for name, found in memories.items():
            self.check_memory(name, found)
        expect(dict(labels), self.labels, "the labels in the store")
        turns = [
            (m["namespace"], m["session"], m["turn"]) for m in memories.values() if "turn" in m
        ]
        expect(len(set(turns)), len(turns), "two memories have one turn")
