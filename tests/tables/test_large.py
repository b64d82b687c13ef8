"""From some size on the table's indexes are asked: the same answers, at every step of growth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import lancedb
import pytest

from byheart_store import Filter, MemoryStore, NewMemory, Receipt
from byheart_store.recall import legs as evidence
from byheart_store.tables import indexes, schema
from byheart_store.upkeep.repair import Doctor

from ..conftest import Filled

MEMORIES = 320
CANDIDATES = 120
THINGS = ["kiln", "ferry", "orchard", "violin", "glacier", "bakery", "lighthouse", "telescope"]
DEEDS = ["repaired", "painted", "measured", "visited", "sold", "described", "photographed", "lost"]
PEOPLE = ["Lena", "Marco", "Ada", "Tomas", "Ines"]


def memory(number: int) -> NewMemory:
    person, deed, thing = (
        names[number // step % len(names)]
        for names, step in ((PEOPLE, 1), (DEEDS, len(PEOPLE)), (THINGS, len(PEOPLE) * len(DEEDS)))
    )
    return NewMemory(
        id=f"memory-{number}",
        text=f"{person} {deed} the {thing} before winter.",
        namespace=f"year-{number % 3}",
        session=f"talk-{number // 20}",
        tags=("even",) if number % 2 == 0 else (),
    )


QUESTIONS = [f"Who {deed} a {thing}?" for deed in DEEDS[:4] for thing in THINGS[:5]]


@pytest.fixture(autouse=True)
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred memories are treated as very many."""
    monkeypatch.setattr(indexes, "INDEXED_FROM", MEMORIES - 20)
    monkeypatch.setattr(evidence, "CANDIDATES", CANDIDATES)


@pytest.fixture
async def large(home: Path, filled: Filled) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(await filled(many, home)) as store:
        yield store


async def many(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await store.remember_many([memory(number) for number in range(MEMORIES)])
        await store.reindex()


async def indexed(home: Path) -> dict[str, int]:
    """The rows that each column's index does not hold yet."""
    table = await (await lancedb.connect_async(str(home / "db"))).open_table(schema.MEMORIES)
    return {index.columns[0]: index.num_unindexed_rows or 0 for index in await table.list_indices()}


async def found(store: MemoryStore, query: str, where: Filter | None = None) -> list[str]:
    recall = await store.recall(query, where=where or Filter(), log=False)
    return [hit.id for hit in recall.hits]


def traces(home: Path, *secrets: bytes) -> list[Path]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path for path in files if any(one in path.read_bytes() for one in secrets)]


async def test_a_small_store_has_no_index_but_that_of_words(home: Path, store: MemoryStore) -> None:
    await store.remember_many([memory(number) for number in range(40)])
    await store.reindex()
    assert list(await indexed(home)) == [schema.SEARCHED]


async def test_a_store_that_has_grown_is_indexed_by_its_compaction(
    home: Path, large: MemoryStore
) -> None:
    rows = await indexed(home)
    vectors = [column for column in rows if column.startswith("vector_")]
    assert rows.keys() == {schema.SEARCHED, *indexes.LOOKED_UP, *vectors}
    assert len(vectors) == 1
    assert set(rows.values()) == {0}


async def test_candidates_are_ranked_as_all_memories_are(
    large: MemoryStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_candidates = [await found(large, question) for question in QUESTIONS]
    monkeypatch.setattr(indexes, "INDEXED_FROM", 10 * MEMORIES)
    async with await MemoryStore.open(home) as exhaustive:
        of_all = [await found(exhaustive, question) for question in QUESTIONS]
    same = [
        len({*ours} & {*theirs}) / 8 for ours, theirs in zip(of_candidates, of_all, strict=True)
    ]
    assert sum(same) / len(same) > 0.9
    firsts = zip(of_candidates, of_all, strict=True)
    assert sum(ours[0] == theirs[0] for ours, theirs in firsts) >= len(QUESTIONS) - 1


@pytest.mark.parametrize(
    "where",
    [
        Filter(namespaces=("year-1",)),
        Filter(namespaces=("year-0", "year-2"), tags=("even",)),
        Filter(session="talk-3"),
        Filter(tags=("even",)),
    ],
)
async def test_a_filter_leaves_nothing_out_that_it_admits(
    large: MemoryStore, where: Filter
) -> None:
    recall = await large.recall("Who sold it?", where=where, limit=MEMORIES, log=False)
    assert {hit.id for hit in recall.hits} == {one.id async for one in large.memories(where)}


async def test_one_long_memory_does_not_take_the_places_of_all_others(large: MemoryStore) -> None:
    await large.remember(NewMemory(id="long", text="Lena sold the kiln before winter. " * 4_000))
    await large.reindex()
    hits = await found(large, "Who sold a kiln?")
    assert len(hits) == 8
    assert "long" in hits


async def test_a_hit_tells_its_exact_cosine(
    large: MemoryStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = (await large.recall(QUESTIONS[7], log=False)).hits
    monkeypatch.setattr(indexes, "INDEXED_FROM", 10 * MEMORIES)
    async with await MemoryStore.open(home) as exhaustive:
        every = await exhaustive.recall(QUESTIONS[7], limit=MEMORIES, log=False)
    exact = {hit.id: hit.explanation.cosine for hit in every.hits}
    assert [hit.explanation.cosine for hit in hits] == [
        pytest.approx(exact[hit.id], abs=1e-5) for hit in hits
    ]


async def test_what_is_remembered_forgotten_or_replaced_shows_at_once(large: MemoryStore) -> None:
    new = await large.remember(NewMemory(text="Zoltan tuned the harpsichord at midnight."))
    assert (await found(large, "Who tuned a harpsichord?"))[0] == new.id
    newer = await large.remember(
        NewMemory(text="Zoltan tuned the harpsichord at noon.", replaces=new.id)
    )
    hits = await found(large, "Who tuned a harpsichord?")
    assert hits[0] == newer.id
    assert new.id not in hits
    await large.forget([newer.id])
    assert newer.id not in await found(large, "Who tuned a harpsichord?")


async def test_a_memory_without_a_vector_is_found_by_its_words(
    large: MemoryStore, home: Path
) -> None:
    async with await MemoryStore.open(home, model="no/such-model") as wordless:
        receipt = await wordless.remember(NewMemory(text="The quokka slept under the veranda."))
    assert (await found(large, "Where did the quokka sleep?"))[0] == receipt.id


async def test_words_alone_are_searched_among_many(large: MemoryStore) -> None:
    recall = await large.recall("orchard violin", mode="text", log=False)
    assert all("orchard" in hit.text or "violin" in hit.text for hit in recall.hits)


async def test_another_model_has_its_index_before_it_serves(
    large: MemoryStore, home: Path, other_model: str
) -> None:
    await large.reindex(other_model)
    vectors = [column for column in await indexed(home) if column.startswith("vector_")]
    assert len(vectors) == 2
    assert len(await found(large, QUESTIONS[0])) == 8


async def test_indexes_are_made_while_others_write_and_recall(
    home: Path, large: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "MOST_SEGMENTS", 0)  # each compaction makes the index anew
    async with await MemoryStore.open(home) as other:
        compacting = asyncio.create_task(large.reindex())
        receipts: list[Receipt] = []
        while not compacting.done():
            text = f"Parcel {len(receipts)} arrived from the harbour."
            receipts.append(await other.remember(NewMemory(text=text)))
            assert receipts[-1].id in await found(large, text)
            await other.forget([f"memory-{len(receipts)}"])
            assert f"memory-{len(receipts)}" not in await found(other, QUESTIONS[0])
    assert receipts
    kept = {one.id async for one in large.memories()}
    assert {receipt.id for receipt in receipts} <= kept
    assert len(kept) == MEMORIES


async def test_a_purge_leaves_nothing_in_any_index(large: MemoryStore, home: Path) -> None:
    secret = await large.remember(
        NewMemory(id="Quetzalcoatlus4417", text="A word.", namespace="Pterodactyl88")
    )
    await large.reindex()
    await large.forget([secret.id], purge=True)
    assert traces(home, b"Quetzalcoatlus4417", b"Pterodactyl88") == []
    assert len(await indexed(home)) == 2 + len(indexes.LOOKED_UP)


async def test_a_damaged_index_is_told_and_made_anew(large: MemoryStore, home: Path) -> None:
    before = await found(large, QUESTIONS[3])
    await large.close()
    for path in (home / "db" / "memories.lance" / "_indices").rglob("*.*"):
        path.write_bytes(path.read_bytes()[:40])
    assert "index" in {finding.kind for finding in (await Doctor(home).examine()).findings}
    await Doctor(home).mend()
    async with await MemoryStore.open(home) as mended:
        assert await found(mended, QUESTIONS[3]) == before
    assert len(await indexed(home)) == 2 + len(indexes.LOOKED_UP)
