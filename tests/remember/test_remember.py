from pathlib import Path

import pytest

from byheart_store import (
    Filter,
    InvalidInput,
    Memory,
    MemoryStore,
    NewMemory,
    Receipt,
    UnknownMemory,
    parse_time,
)

from ..peeking import do_chores

FACT = "The spare key is hidden beneath the blue flower pot."
CHATTER = "We talked about the weather, the neighbours and the price of bread. "


async def tell(store: MemoryStore, text: str, **more: object) -> str:
    return (await store.remember(NewMemory(text=text, **more))).id  # type: ignore[arg-type]


async def found(store: MemoryStore, query: str, where: Filter | None = None) -> list[str]:
    return [hit.id for hit in (await store.recall(query, where=where or Filter())).hits]


async def everything(store: MemoryStore) -> list[Memory]:
    return [memory async for memory in store.memories()]


async def test_a_memory_is_found_by_word_and_by_meaning_at_once(store: MemoryStore) -> None:
    memory = await tell(store, "Ana's flight to Lisbon leaves at seven")
    await tell(store, "The boiler was serviced")
    assert (await store.recall("lisbon", mode="text")).hits[0].id == memory
    assert (await store.recall("when does her plane depart?", mode="vector")).hits[0].id == memory
    assert (await found(store, "plane to lisbon"))[0] == memory


async def test_all_that_is_said_of_a_memory_is_kept(store: MemoryStore) -> None:
    at = parse_time("2026-03-14T09:30:00+02:00")
    memory = await tell(
        store, "Tea at four", namespace="work/✨", session="s:1", speaker="Ana", at=at,
        tags=("food", "plan"), source="chat", metadata={"n": 1, "deep": {"list": [None, "é"]}},
    )  # fmt: skip
    kept = await store.get(memory)
    assert (kept.namespace, kept.session, kept.turn) == ("work/✨", "s:1", 0)
    assert (kept.speaker, kept.at, kept.tags) == ("Ana", at, ("food", "plan"))
    assert (kept.source, kept.metadata) == ("chat", {"n": 1, "deep": {"list": [None, "é"]}})


async def test_the_same_text_again_is_the_same_memory(store: MemoryStore) -> None:
    first = await store.remember(NewMemory(text="Ana likes tea", session="one"))
    again = await store.remember(NewMemory(text="Ana likes tea", session="one"))
    assert (first.status, again.status, again.id) == ("stored", "duplicate", first.id)
    assert len(await everything(store)) == 1


@pytest.mark.parametrize("more", [{"session": "two"}, {"namespace": "other"}, {"session": None}])
async def test_the_same_text_elsewhere_is_another_memory(
    store: MemoryStore, more: dict[str, str]
) -> None:
    first = await tell(store, "Ana likes tea", session="one")
    assert await tell(store, "Ana likes tea", **{"session": "one", **more}) != first


@pytest.mark.parametrize("name", ["D1:3", "a/b c", "日本-🦑", 'it\'s "q" \\ --', "x" * 200])
async def test_a_given_id_is_kept(store: MemoryStore, name: str) -> None:
    assert await tell(store, "Ana likes tea", id=name) == name
    assert (await store.get(name)).text == "Ana likes tea"
    assert (await store.remember(NewMemory(text="Ana likes tea", id=name))).status == "duplicate"


async def test_a_given_id_with_another_text_is_refused(store: MemoryStore) -> None:
    await tell(store, "Ana likes tea", id="m1")
    with pytest.raises(InvalidInput, match="'m1' is taken"):
        await tell(store, "Ana likes coffee", id="m1")
    assert (await store.get("m1")).text == "Ana likes tea"


async def test_two_ids_with_the_same_text_are_two_memories(store: MemoryStore) -> None:
    assert await tell(store, "ok", id="m1") != await tell(store, "ok", id="m2")


async def test_a_replaced_memory_is_left_out_of_recall(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    receipt = await store.remember(NewMemory(text="Ana lives in Bonn", replaces=old))
    assert receipt.status == "replaced"
    assert await found(store, "where does Ana live") == [receipt.id]
    shown = await found(store, "where does Ana live", Filter(include_replaced=True))
    assert sorted(shown) == sorted([old, receipt.id])


async def test_old_and_new_name_each_other(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    new = await tell(store, "Ana lives in Bonn", replaces=old)
    before, after = await store.get(old), await store.get(new)
    assert (before.replaced_by, before.replaced_at) == (new, after.created)
    assert (after.replaces, after.replaced_by) == (old, None)


async def test_a_store_can_be_asked_what_it_knew_at_a_moment(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    then = (await store.get(old)).created
    new = await tell(store, "Ana lives in Bonn", replaces=old)
    assert await found(store, "Ana's home", Filter(as_of=then)) == [old]
    assert await found(store, "Ana's home", Filter(as_of=(await store.get(new)).created)) == [new]


async def test_all_passages_of_a_replaced_memory_are_left_out(store: MemoryStore) -> None:
    old = await tell(store, CHATTER * 60 + FACT)
    new = await tell(store, "The spare key is with Marta now.", replaces=old)
    assert await found(store, "spare key") == [new]
    assert (await store.stats()).without_vector == 0


async def test_a_replaced_memory_can_not_be_replaced_again(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    new = await tell(store, "Ana lives in Bonn", replaces=old)
    with pytest.raises(InvalidInput, match=new):
        await tell(store, "Ana lives in Rome", replaces=old)


async def test_replacing_what_is_not_there_is_refused(store: MemoryStore) -> None:
    with pytest.raises(UnknownMemory, match="take the id from a recall"):
        await tell(store, "Ana lives in Rome", replaces="nothing")
    assert await everything(store) == []


async def test_a_memory_is_replaced_within_its_namespace(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin", namespace="private")
    with pytest.raises(InvalidInput, match="lies in 'private'"):
        await tell(store, "Ana lives in Bonn", namespace="work", replaces=old)
    new = await tell(store, "Ana lives in Bonn", replaces=old)
    assert (await store.get(new)).namespace == "private"


async def test_telling_the_same_change_again_is_a_duplicate(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    change = NewMemory(text="Ana lives in Bonn", replaces=old)
    first, again = await store.remember(change), await store.remember(change)
    assert (again.id, again.status) == (first.id, "duplicate")


async def test_a_replaced_fact_may_become_true_again(store: MemoryStore) -> None:
    berlin = await tell(store, "Ana lives in Berlin")
    bonn = await tell(store, "Ana lives in Bonn", replaces=berlin)
    back = await tell(store, "Ana lives in Berlin", replaces=bonn)
    assert back != berlin
    assert await found(store, "Ana's home") == [back]


async def test_a_batch_may_replace_what_it_brings(store: MemoryStore) -> None:
    chain = [
        NewMemory(text="Ana lives in Berlin", id="berlin"),
        NewMemory(text="Ana lives in Bonn", id="bonn", replaces="berlin"),
        NewMemory(text="Ana lives in Rome", replaces="bonn"),
    ]
    receipts = await store.remember_many(chain)
    assert [receipt.status for receipt in receipts] == ["stored", "replaced", "replaced"]
    assert (await store.get("berlin")).replaced_by == "bonn"
    assert await found(store, "Ana's home") == [receipts[2].id]


async def test_a_batch_can_not_replace_one_memory_twice(store: MemoryStore) -> None:
    old = await tell(store, "Ana lives in Berlin")
    two = [NewMemory(text=f"Ana lives in {city}", replaces=old) for city in ("Bonn", "Rome")]
    with pytest.raises(InvalidInput, match="already replaced"):
        await store.remember_many(two)
    assert [memory.id for memory in await everything(store)] == [old]


async def test_an_imported_history_is_taken_as_it_was(store: MemoryStore) -> None:
    at = parse_time("2026-01-02")
    old = NewMemory(text="Berlin", id="old", replaced_by="new", replaced_at=at, created=at)
    new = NewMemory(text="Bonn", id="new", replaces="old", created=at)
    await store.remember_many([new, old])
    assert await found(store, "Berlin or Bonn") == ["new"]
    assert ((await store.get("old")).replaced_at, (await store.get("new")).created) == (at, at)


async def test_turns_of_a_session_count_up(store: MemoryStore) -> None:
    ids = [await tell(store, f"turn {number}", session="s") for number in range(3)]
    ids += [r.id for r in await store.remember_many([NewMemory(text="a", session="s")] * 2)]
    assert [(await store.get(name)).turn for name in ids] == [0, 1, 2, 3, 3]
    assert (await store.get(await tell(store, "alone"))).turn is None


async def test_given_turns_are_kept_and_counted_from(store: MemoryStore) -> None:
    turns = [7, 3, None]
    batch = [NewMemory(text=f"turn {turn}", session="s", turn=turn) for turn in turns]
    ids = [receipt.id for receipt in await store.remember_many(batch)]
    assert [(await store.get(name)).turn for name in ids] == [7, 3, 8]


async def test_a_session_at_its_last_turn_still_takes_memories(store: MemoryStore) -> None:
    last = 2**31 - 1
    await tell(store, "the end", session="s", turn=last)
    assert (await store.get(await tell(store, "or not", session="s"))).turn == last


async def test_a_batch_answers_in_its_order_with_repeats_inside(store: MemoryStore) -> None:
    known = await tell(store, "old news")
    texts = ["one", "two", "one", "old news", "three"]
    receipts = await store.remember_many([NewMemory(text=text) for text in texts])
    assert [receipt.status[0] for receipt in receipts] == ["s", "s", "d", "d", "s"]
    assert (receipts[2].id, receipts[3].id) == (receipts[0].id, known)
    assert sorted(m.text for m in await everything(store)) == sorted({*texts})


async def test_an_empty_batch_is_answered(store: MemoryStore) -> None:
    assert await store.remember_many([]) == []


async def test_a_refused_memory_refuses_its_batch(store: MemoryStore) -> None:
    await tell(store, "Ana likes tea", id="m1")
    with pytest.raises(InvalidInput):
        await store.remember_many([NewMemory(text="fine"), NewMemory(text="not", id="m1")])
    assert [memory.id for memory in await everything(store)] == ["m1"]


async def test_progress_counts_what_is_done(store: MemoryStore) -> None:
    done: list[int] = []
    await store.remember_many([NewMemory(text=f"note {n}") for n in range(300)], done.append)
    assert (sum(done), len(done)) == (300, 2)


@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
async def test_a_fact_in_the_tail_of_a_long_memory_is_found(store: MemoryStore, mode: str) -> None:
    long = await tell(store, CHATTER * 100 + FACT)
    await tell(store, "The boiler was serviced in March")
    hit = (await store.recall("Where is the spare key hidden?", mode=mode)).hits[0]  # type: ignore[arg-type]
    assert hit.id == long
    assert FACT in hit.text
    assert (await store.stats()).passages > 2


async def test_a_memory_of_a_book_chapter_is_stored_whole(wordless: MemoryStore) -> None:
    text = "\n".join(f"Line {number}: the sea was calm and grey." for number in range(9_300))
    receipt = await wordless.remember(NewMemory(text=text))
    assert len(text) > 348_000
    assert (await wordless.get(receipt.id)).text == text
    hit = (await wordless.recall("Line 8765", mode="text")).hits[0]
    assert "Line 8765:" in hit.text
    assert hit.is_excerpt


@pytest.mark.slow
async def test_a_fact_in_a_book_chapter_is_found_by_meaning(store: MemoryStore) -> None:
    lines = [f"Line {number}: the sea was calm and grey." for number in range(9_300)]
    lines[7_000] = FACT
    await tell(store, "\n".join(lines))
    hit = (await store.recall("Where do they keep the key?", mode="vector")).hits[0]
    assert FACT in hit.text


async def test_without_a_model_memories_are_stored_and_found_by_words(
    wordless: MemoryStore,
) -> None:
    memory = await tell(wordless, "Ana's flight leaves at seven")
    recall = await wordless.recall("flight")
    assert [hit.id for hit in recall.hits] == [memory]
    assert recall.degraded
    assert recall.notice is not None
    assert "no/such-model" in recall.notice


async def test_what_was_stored_without_a_model_is_embedded_later(
    home: Path, wordless: MemoryStore
) -> None:
    memory = await tell(wordless, "Ana's flight leaves at seven")
    async with await MemoryStore.open(home) as store:
        assert (await store.stats()).without_vector == 1
        assert (await store.reindex()).rows == 1
        hits = (await store.recall("when does her plane depart?", mode="vector")).hits
        assert [hit.id for hit in hits] == [memory]


async def test_loading_the_model_embeds_what_is_missing(home: Path, wordless: MemoryStore) -> None:
    await tell(wordless, "Ana's flight leaves at seven")
    async with await MemoryStore.open(home) as store:
        await do_chores(store)
        assert (await store.stats()).without_vector == 0


async def test_a_forgotten_memory_may_be_told_again(store: MemoryStore) -> None:
    first = await tell(store, "Ana likes tea")
    await store.forget([first])
    receipt = await store.remember(NewMemory(text="Ana likes tea"))
    assert (receipt.status, receipt.id != first) == ("stored", True)


async def test_a_key_is_stored_once(store: MemoryStore) -> None:
    told = NewMemory(text="Ana likes tea", session="one", key="k1")
    first = await store.remember(told)
    again = await store.remember(told)
    assert (first.status, again) == ("stored", Receipt(first.id, "duplicate"))
    assert (await store.stats()).memories == 1


async def test_a_key_in_one_batch_is_stored_once(store: MemoryStore) -> None:
    receipts = await store.remember_many([NewMemory(text="Ana likes tea", key="k1")] * 2)
    assert [receipt.status for receipt in receipts] == ["stored", "duplicate"]


async def test_a_key_of_another_text_is_refused(store: MemoryStore) -> None:
    first = await store.remember(NewMemory(text="Ana likes tea", key="k1"))
    with pytest.raises(InvalidInput, match=f"key: 'k1' was given to another memory, {first.id}"):
        await store.remember(NewMemory(text="Ana likes coffee", key="k1"))
    assert (await store.stats()).memories == 1


async def test_a_text_is_stored_once_whatever_its_keys(store: MemoryStore) -> None:
    receipts = [
        await store.remember(NewMemory(text="Ana likes tea", key=key)) for key in (None, "k1", "k2")
    ]
    assert [receipt.status for receipt in receipts] == ["stored", "duplicate", "duplicate"]
    assert len({receipt.id for receipt in receipts}) == 1


async def test_a_replacement_that_is_sent_again_replaces_once(store: MemoryStore) -> None:
    old = await store.remember(NewMemory(text="Ana likes tea"))
    told = NewMemory(text="Ana likes coffee", replaces=old.id, key="k1")
    new, again = await store.remember(told), await store.remember(told)
    assert (new.status, again) == ("replaced", Receipt(new.id, "duplicate"))


async def test_another_process_that_writes_between_is_seen(home: Path, store: MemoryStore) -> None:
    async with await MemoryStore.open(home) as other:
        for number in range(6):
            writer, reader = (store, other) if number % 2 else (other, store)
            told = NewMemory(text=f"note {number}", session="log")
            first = await writer.remember(told)
            assert await reader.remember(told) == Receipt(first.id, "duplicate")
            await writer.remember(NewMemory(text=f"more of {number}", session="log"))
    turns = [memory.turn async for memory in store.memories()]
    assert turns == list(range(12))


async def test_what_was_forgotten_between_may_be_told_again(home: Path, store: MemoryStore) -> None:
    for number in range(3):
        await store.remember(NewMemory(text=f"note {number}", session="log"))
    async with await MemoryStore.open(home) as other:
        await other.forget([(await other.recall("note 2")).hits[0].id])
    told = await store.remember(NewMemory(text="note 2", session="log"))
    assert (told.status, (await store.get(told.id)).turn) == ("stored", 2)
