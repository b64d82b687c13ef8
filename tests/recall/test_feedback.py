from pathlib import Path

import pytest

from byheart_store import (
    FeedbackCounts,
    InvalidInput,
    MemoryStore,
    NewMemory,
    Recall,
    UnknownRecall,
)
from byheart_store.recall import journal


@pytest.fixture
def logged_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recall that is not in the log is given up sooner than others may need to log it."""
    monkeypatch.setattr(journal, "LOGGED_WITHIN", 0.5)


async def tea_time(store: MemoryStore) -> Recall:
    await store.remember_many(
        [NewMemory(text=f"Ana likes {drink}", id=drink) for drink in ("tea", "milk", "juice")]
    )
    return await store.recall("what does Ana like?")


async def judgements(store: MemoryStore) -> dict[str, bool]:
    return {label.memory_id: label.useful for label in await store.labels()}


async def test_feedback_becomes_labels(store: MemoryStore) -> None:
    recall = await tea_time(store)
    assert await store.feedback(recall.recall_id, ["tea"], ["milk"]) == FeedbackCounts(1, 1)
    first, second = await store.labels()
    assert (first.memory_id, first.useful, first.query) == ("tea", True, "what does Ana like?")
    assert (second.memory_id, second.useful, second.source) == ("milk", False, "agent")
    assert (first.namespace, first.recall_id) == ("default", recall.recall_id)


async def test_a_later_label_wins(store: MemoryStore) -> None:
    recall = await tea_time(store)
    await store.feedback(recall.recall_id, ["tea", "milk"])
    again = await store.recall("what does Ana like?")
    await store.feedback(again.recall_id, [], ["tea"])
    assert await judgements(store) == {"tea": False, "milk": True}


async def test_an_id_named_twice_counts_once(store: MemoryStore) -> None:
    recall = await tea_time(store)
    assert await store.feedback(recall.recall_id, ["tea", "tea"]) == FeedbackCounts(1, 0)


async def test_feedback_on_an_unknown_recall_is_refused(store: MemoryStore) -> None:
    with pytest.raises(UnknownRecall, match="'nothing'"):
        await store.feedback("nothing", ["tea"])


async def test_feedback_on_what_was_no_hit_is_refused(store: MemoryStore) -> None:
    recall = await tea_time(store)
    with pytest.raises(InvalidInput, match="'beer': not among the hits"):
        await store.feedback(recall.recall_id, ["tea", "beer"])
    assert await store.labels() == []


async def test_an_id_on_both_sides_is_refused(store: MemoryStore) -> None:
    recall = await tea_time(store)
    with pytest.raises(InvalidInput, match="both useful and not useful"):
        await store.feedback(recall.recall_id, ["tea"], ["tea"])


async def test_feedback_on_nothing_is_refused(store: MemoryStore) -> None:
    recall = await tea_time(store)
    with pytest.raises(InvalidInput, match="at least one"):
        await store.feedback(recall.recall_id, [])


async def test_labels_go_with_the_forgotten_memory(store: MemoryStore) -> None:
    recall = await tea_time(store)
    await store.feedback(recall.recall_id, ["tea", "milk"])
    await store.forget(["tea"])
    assert await judgements(store) == {"milk": True}


async def test_a_recall_is_logged_as_it_was_answered(store: MemoryStore) -> None:
    recall = await tea_time(store)
    (logged,) = await store.logged_recalls()
    assert (logged.recall_id, logged.query) == (recall.recall_id, recall.query)
    assert logged.ids == tuple(hit.id for hit in recall.hits)
    assert logged.relevances == pytest.approx([hit.relevance for hit in recall.hits])
    assert (logged.model, logged.mode, logged.degraded) == ("all-MiniLM-L6-v2", "hybrid", False)


async def test_a_recall_out_of_the_log_takes_no_feedback(
    store: MemoryStore, logged_soon: None
) -> None:
    await tea_time(store)
    silent = await store.recall("tea", log=False)
    with pytest.raises(UnknownRecall):
        await store.feedback(silent.recall_id, ["tea"])
    assert len(await store.logged_recalls()) == 1


async def test_nothing_is_logged_when_the_log_is_off(home: Path, logged_soon: None) -> None:
    async with await MemoryStore.open(home, log_recalls=False) as store:
        recall = await tea_time(store)
        assert await store.logged_recalls() == []
        with pytest.raises(UnknownRecall):
            await store.feedback(recall.recall_id, ["tea"])


async def test_the_log_survives_reopening(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        recall = await tea_time(store)
    async with await MemoryStore.open(home) as store:
        await store.feedback(recall.recall_id, ["tea"])
        assert await judgements(store) == {"tea": True}


async def test_two_stores_on_one_home_share_log_and_labels(home: Path, store: MemoryStore) -> None:
    async with await MemoryStore.open(home) as other:
        recall = await tea_time(store)
        await store.logged_recalls()
        await other.feedback(recall.recall_id, ["tea"], source="user")
    assert [label.source for label in await store.labels()] == ["user"]


async def test_recalls_at_once_are_all_logged(store: MemoryStore) -> None:
    await tea_time(store)
    for number in range(20):
        await store.recall(f"question {number}", mode="text")
    assert [r.query for r in await store.logged_recalls()][1:] == [
        f"question {n}" for n in range(20)
    ]
