import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from byheart_store import InvalidInput, MemoryStore, ModelUnavailable, NewMemory
from byheart_store.models.passages import count_tokens

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIFE = {
    "tea": "Ana drinks green tea in the morning, never coffee.",
    "flight": "Ana's flight to Lisbon leaves on Friday at seven.",
    "boiler": "The boiler was serviced in March; the invoice was 140 euros.",
    "dog": "Bo, the neighbour's dog, is afraid of thunderstorms.",
    "gift": "For her birthday Marta would like a book about lighthouses.",
    "code": "The helper foo_bar in utils/parse.py retries three times.",
    "zh": "小明每天早上骑自行车去上班。",
    "ar": "تسافر ليلى إلى القاهرة في الصيف لزيارة جدتها.",
}
LONG = "\n\n".join(
    [f"Paragraph {n} tells of the harbour, its ships and its {n} cranes." * 3 for n in range(90)]
    + ["The lighthouse keeper is called Ottilie Brandt."]
    + [f"Appendix {n} lists timetables of the ferries in summer." * 3 for n in range(60)]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(tmp_path_factory.mktemp("life")) as store:
        await store.remember_many([NewMemory(text=text, id=name) for name, text in LIFE.items()])
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def library(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(tmp_path_factory.mktemp("library")) as store:
        await store.remember_many(
            [NewMemory(text=LONG, id="long"), NewMemory(text="The library opens at nine.")]
        )
        yield store


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("When does Ana's flight to Lisbon leave?", "flight"),
        ("green tea or coffee", "tea"),
        ("What is the neighbour's dog afraid of?", "dog"),
    ],
)
async def test_the_answer_comes_first(life: MemoryStore, query: str, name: str, mode: str) -> None:
    recall = await life.recall(query, mode=mode)  # type: ignore[arg-type]
    assert recall.hits[0].id == name
    assert not recall.degraded


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("自行车", "zh"),
        ("小明怎么去上班？", "zh"),
        ("القاهرة", "ar"),
        ("foo", "code"),
        ("foo_bar", "code"),
    ],
)
async def test_words_are_found_in_any_script(life: MemoryStore, query: str, name: str) -> None:
    assert (await life.recall(query, mode="text")).hits[0].id == name
    assert (await life.recall(query)).hits[0].id == name


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_at_most_so_many_hits_come_back(life: MemoryStore, limit: int) -> None:
    hits = (await life.recall("what is known of Ana?", limit=limit)).hits
    assert len(hits) <= min(limit, len(LIFE))
    assert len({hit.id for hit in hits}) == len(hits)


async def test_a_smaller_limit_gives_the_head_of_the_same_order(life: MemoryStore) -> None:
    many = [hit.id for hit in (await life.recall("Ana travels", limit=6)).hits]
    few = [hit.id for hit in (await life.recall("Ana travels", limit=2)).hits]
    assert few == many[:2]


async def test_the_same_query_gives_the_same_answer(life: MemoryStore) -> None:
    first, second = [(await life.recall("what scares the dog?")).hits for _ in range(2)]
    assert first == second


@pytest.mark.parametrize("limit", [0, -1, 1001, 1_000_000])
async def test_a_limit_out_of_bounds_is_refused(life: MemoryStore, limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        await life.recall("tea", limit=limit)


@pytest.mark.parametrize("query", ["", " \n\t", "\u3000", "x" * 10_001])
async def test_a_query_without_a_question_is_refused(life: MemoryStore, query: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        await life.recall(query)


@pytest.mark.parametrize(
    "query",
    ["the", "who is the one that was", "?!", '"', '"tea', '"green tea"', "tea AND (", "tea\x00",
     "\ud800", "a:b^2~", "🦑", "\u0301", "tea " * 2_400, "-tea", "*", "'; DROP TABLE memories; --"],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["hybrid", "text"])
async def test_any_query_is_answered(life: MemoryStore, query: str, mode: str) -> None:
    recall = await life.recall(query, mode=mode)  # type: ignore[arg-type]
    assert all(0 <= hit.relevance <= 1 for hit in recall.hits)


async def test_an_unknown_topic_is_no_match(life: MemoryStore) -> None:
    assert (await life.recall("tensile strength of titanium alloys in aerospace")).no_match
    assert not (await life.recall("When does Ana's flight to Lisbon leave?")).no_match


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_an_empty_store_answers_no_match(tmp_path: Path, mode: str) -> None:
    async with await MemoryStore.open(tmp_path / "empty") as store:
        recall = await store.recall("anything", mode=mode)  # type: ignore[arg-type]
    assert (recall.hits, recall.no_match) == ((), True)


async def test_a_hit_says_why_it_was_found(life: MemoryStore) -> None:
    why = (await life.recall("flight to Lisbon")).hits[0].explanation
    assert (why.text_rank, why.vector_rank) == (1, 1)
    assert why.text_score is not None
    assert why.text_score > 0
    assert why.cosine is not None
    assert 0.4 < why.cosine <= 1


async def test_a_mode_asks_one_leg_only(life: MemoryStore) -> None:
    words = (await life.recall("flight", mode="text")).hits[0].explanation
    meaning = (await life.recall("flight", mode="vector")).hits[0].explanation
    assert (words.vector_rank, words.cosine) == (None, None)
    assert (meaning.text_rank, meaning.text_score) == (None, None)


async def test_scores_fall_from_hit_to_hit(life: MemoryStore) -> None:
    scores = [hit.explanation.score for hit in (await life.recall("Ana's morning")).hits]
    assert scores == sorted(scores, reverse=True)


async def test_an_excerpt_lies_where_its_offsets_say(library: MemoryStore) -> None:
    hit = (await library.recall("What is the lighthouse keeper called?")).hits[0]
    assert (hit.id, hit.is_excerpt) == ("long", True)
    assert "Ottilie Brandt" in hit.text
    assert hit.text == LONG[hit.start : hit.end]


async def test_a_short_memory_is_shown_whole(library: MemoryStore) -> None:
    hit = (await library.recall("When does the library open?")).hits[0]
    assert (hit.text, hit.is_excerpt) == (hit.memory.text, False)


@pytest.mark.parametrize("bound", [1, 12, 40, 230, 1_000])
async def test_a_token_budget_holds(library: MemoryStore, bound: int) -> None:
    hits = (await library.recall("lighthouse keeper, library", max_tokens=bound)).hits
    assert sum(count_tokens(hit.text) for hit in hits) <= bound
    assert all(hit.text == hit.memory.text[hit.start : hit.end] for hit in hits)


async def test_a_token_budget_never_cuts_inside_the_match(library: MemoryStore) -> None:
    hits = (await library.recall("lighthouse keeper Ottilie", max_tokens=230)).hits
    assert "The lighthouse keeper is called Ottilie Brandt." in hits[0].text


async def test_a_budget_without_room_is_refused(life: MemoryStore) -> None:
    with pytest.raises(InvalidInput, match="max_tokens"):
        await life.recall("tea", max_tokens=0)


async def test_while_the_model_loads_words_answer(
    held_model: threading.Event, tmp_path: Path
) -> None:
    async with await MemoryStore.open(tmp_path / "home") as store:
        told = asyncio.create_task(store.remember(NewMemory(text="Ana drinks green tea")))
        recall = await store.recall("tea", wait_for_model=False)
        assert recall.degraded
        assert "still loading" in (recall.notice or "")
        assert store.model_state == "loading"
        held_model.set()
        await told
        assert not (await store.recall("tea")).degraded
        assert store.model_state == "ready"


async def test_what_is_stored_is_found_while_the_model_loads(
    life: MemoryStore, held_model: threading.Event
) -> None:
    async with await MemoryStore.open(Path(life.location).parent) as store:
        recall = await store.recall("green tea", wait_for_model=False)
        assert (recall.hits[0].id, recall.degraded) == ("tea", True)
        held_model.set()


async def test_vectors_alone_can_not_be_asked_without_a_model(tmp_path: Path) -> None:
    async with await MemoryStore.open(tmp_path / "home", model="no/such-model") as store:
        with pytest.raises(ModelUnavailable, match="no/such-model"):
            await store.recall("tea", mode="vector")


async def test_a_turn_is_found_by_what_stood_before_it(tmp_path: Path) -> None:
    async with await MemoryStore.open(tmp_path / "home") as store:
        asked = NewMemory(text="Which restaurant did you book for Saturday?", session="s")
        reply = NewMemory(text="Luigi's, at eight.", session="s", id="reply")
        other = NewMemory(text="At eight, as ever.", session="other", id="other")
        await store.remember_many([asked, reply, other])
        order = [hit.id for hit in (await store.recall("restaurant booked for Saturday")).hits]
    assert "reply" in order
    assert "other" not in order or order.index("reply") < order.index("other")


async def test_a_forgotten_memory_is_not_recalled(tmp_path: Path) -> None:
    async with await MemoryStore.open(tmp_path / "home") as store:
        tea, milk = await store.remember_many(
            [NewMemory(text=f"{x} is out") for x in ("tea", "milk")]
        )
        assert (await store.forget([tea.id, "nothing"])).missing == ("nothing",)
        for mode in ("hybrid", "vector", "text"):
            hits = (await store.recall("tea or milk", mode=mode)).hits  # type: ignore[arg-type]
            assert [hit.id for hit in hits] == [milk.id]


async def test_a_dry_run_forgets_nothing(life: MemoryStore) -> None:
    forgotten = await life.forget(["tea"], dry_run=True)
    assert (forgotten.ids, forgotten.dry_run) == (("tea",), True)
    assert (await life.get("tea")).text == LIFE["tea"]


@pytest.mark.parametrize("named", [{}, {"ids": []}])
async def test_forgetting_everything_by_accident_is_refused(
    life: MemoryStore, named: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidInput, match="either ids or a filter"):
        await life.forget(**named)
