"""Recall on a small store with the embedded model: what a person would call the right answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from byheart_store import MemoryStore, NewMemory
from byheart_store.ranking.fusion import Fusion
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS_ALONE = replace(DEFAULT_TUNING, fusion=Fusion(vector=0.0, session=0.0, window=0.0))

FACTS = {
    "starter": "The sourdough starter lives in the blue jar next to the window.",
    "rye": "It is fed with rye flour and lukewarm water every second evening.",
    "oven": "The new oven is hotter at the back than the dial admits.",
    "nuts": "Ines is allergic to hazelnuts and must not touch the nougat.",
    "petrel": "The Petrel was lowered into the harbour on the third of May.",
    "mast": "Her mast is eleven metres tall and made of spruce.",
    "berth": "Berth seventeen costs ninety crowns a month in summer.",
    "rudder": "A crack in the rudder was filled with epoxy and sanded flat.",
    "bilge": "The bilge pump fails whenever the battery drops under eleven volts.",
    "jib": "Old Halvard the sailmaker wants the jib back by Thursday.",
    "cello": "Marta practises the cello on Tuesdays and hates the metronome.",
    "wifi": "The password of the guest network is taped under the router.",
    "invoice": "Invoice QX-7719 was paid twice and the second sum came back in June.",
    "doctor": "The physician told Tomas to cut down on salt because of his blood pressure.",
    "cat": "Our cat sleeps in the laundry basket and bites the postman.",
    "tax": "The tax declaration has to be handed in before the end of July.",
    "car": "The old car needs new brake pads and fails its inspection otherwise.",
    "trip": "In October we fly to Lisbon and stay near the Alfama for a week.",
    "garden": "Slugs ate all the lettuce, so the garden gets a copper fence.",
    "school": "Jonas starts school in August and already reads whole books.",
    "lamp": "The reading lamp by the sofa flickers when the fridge turns on.",
    "rent": "The landlord raises the rent by four per cent from January.",
    "bees": "The beekeeper on the hill sells lavender honey on Saturdays.",
    "choir": "The choir rehearses Brahms in the cellar of the town hall.",
    "knee": "After the fall on the stairs her left knee was swollen for a month.",
    "printer": "The printer only works after the driver has been installed again.",
    "wine": "The bottle of Rioja in the cupboard is meant for the anniversary.",
    "key": "The spare key hangs behind the third flower pot.",
    "dentist": "The dentist found a cavity in the upper left molar.",
    "recipe": "Grandmother's plum cake needs forty minutes at a moderate heat.",
    "move": "Lena moved to Bergen for a job at the aquarium.",
    "bike": "The bicycle was stolen in front of the library in broad daylight.",
}
"""Each a memory of its own, in no session."""

TALK = [
    "Did anybody ask what the vet said about the limping dog?",
    "Yes: a torn ligament, he has to rest for six weeks.",
    "Good to know. Shall we cook something tonight?",
    "Pasta would be fine, there is pesto left.",
    "Then let us watch the film that Edda recommended.",
]
"""A session whose second turn answers the first."""

RESTATED = [
    "Paula is a vegetarian and eats no meat.",
    "Paula is vegetarian, she eats no meat.",
    "Paula, who is a vegetarian, does not eat meat.",
    "Paula is a vegetarian; she eats no meat at all.",
]
OTHERWISE = "What Paula likes to eat for dinner is mushroom risotto."

CHATTER = "The weather stayed grey, the ferries came and went, and nobody had much to tell. "
LONG = CHATTER * 150 + "The lighthouse keeper of Norre is called Ottilie Brandt. " + CHATTER * 2
FERRIES = "The last ferry to Norre leaves at ten past nine."

UNKNOWN = [
    "Which programming language compiles to the Erlang virtual machine?",
    "Who won the chess championship in Reykjavik?",
    "How far is the moon from the earth?",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    """Some forty memories: facts, a conversation, restatements and one very long text."""
    talk = [
        NewMemory(id=f"talk-{turn}", text=text, session="evening", turn=turn)
        for turn, text in enumerate(TALK)
    ]
    restated = [NewMemory(id=f"paula-{n}", text=text) for n, text in enumerate(RESTATED)]
    others = {"risotto": OTHERWISE, "long": LONG, "ferry": FERRIES}
    facts = [NewMemory(id=name, text=text) for name, text in (FACTS | others).items()]
    async with await MemoryStore.open(tmp_path_factory.mktemp("life")) as store:
        await store.remember_many([*facts, *talk, *restated])
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[1, 5, len(FACTS)])
async def sized(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MemoryStore]:
    """Stores of the first so many facts."""
    facts = list(FACTS.items())[: request.param]
    async with await MemoryStore.open(tmp_path_factory.mktemp("sized")) as store:
        await store.remember_many([NewMemory(id=name, text=text) for name, text in facts])
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mixed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    """Facts with vectors, and one memory that was stored while there was no model."""
    home = tmp_path_factory.mktemp("mixed")
    async with await MemoryStore.open(home) as store:
        await store.remember_many([NewMemory(id=n, text=text) for n, text in FACTS.items()])
    async with await MemoryStore.open(home, model="no/such-model") as store:
        await store.remember(NewMemory(id="late", text="Minna left the zorbquark at the stop."))
    async with await MemoryStore.open(home) as store:
        yield store


@pytest.fixture
def tuned_home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def ranked(
    store: MemoryStore, query: str, limit: int = 10, mode: str = "hybrid"
) -> list[str]:
    recall = await store.recall(query, limit=limit, mode=mode, log=False)  # type: ignore[arg-type]
    return [hit.id for hit in recall.hits]


class TestContext:
    async def test_the_answer_to_a_question_of_the_turn_before_is_found(
        self, life: MemoryStore
    ) -> None:
        found = await ranked(life, "What did the vet say about the limping dog?", limit=3)
        assert set(found[:2]) == {"talk-0", "talk-1"}

    async def test_what_is_shown_is_the_memory_itself(self, life: MemoryStore) -> None:
        recall = await life.recall("What did the vet say about the limping dog?", log=False)
        answer = next(hit for hit in recall.hits if hit.id == "talk-1")
        assert answer.text == answer.memory.text == TALK[1]

    async def test_neighbours_of_a_find_come_before_strangers(self, life: MemoryStore) -> None:
        found = await ranked(life, "the film that Edda recommended", limit=3)
        assert set(found) == {"talk-4", "talk-3", "talk-2"}

    async def test_neighbours_of_a_find_stay_behind_what_answers(self, life: MemoryStore) -> None:
        assert (await ranked(life, "Who recommended the film?"))[0] == "talk-4"


class TestRestatements:
    async def test_they_leave_room_for_what_answers_too(self, life: MemoryStore) -> None:
        found = await ranked(life, "Paula eats no meat, so what for dinner?", limit=3)
        assert "risotto" in found
        assert any(name.startswith("paula-") for name in found)

    async def test_they_are_still_found_when_all_are_wanted(self, life: MemoryStore) -> None:
        found = await ranked(life, "Is Paula a vegetarian who eats no meat?", limit=20)
        assert {f"paula-{number}" for number in range(4)} <= set(found)


class TestLongMemories:
    async def test_one_does_not_win_by_being_long(self, life: MemoryStore) -> None:
        found = await ranked(life, "When does the last ferry to Norre leave?")
        assert found[0] == "ferry"

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("What does berth seventeen cost in summer?", "berth"),
            ("Who sells honey on the hill?", "bees"),
            ("Where is the spare key?", "key"),
        ],
    )
    async def test_one_about_nothing_in_particular_is_not_drawn_to_every_question(
        self, life: MemoryStore, query: str, name: str
    ) -> None:
        found = await ranked(life, query, limit=5)
        assert found[0] == name
        assert "long" not in found[:3]

    async def test_a_fact_in_the_tail_is_found_and_shown(self, life: MemoryStore) -> None:
        recall = await life.recall("Who keeps the lighthouse?", limit=3, log=False)
        assert recall.hits[0].id == "long"
        assert "Ottilie Brandt" in recall.hits[0].text

    async def test_the_vectors_alone_see_the_tail(self, life: MemoryStore) -> None:
        found = await ranked(life, "Who is the keeper of the lighthouse?", mode="vector")
        assert found[0] == "long"


class TestBothLegs:
    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("advice about hypertension and diet", "doctor"),
            ("my toothache", "dentist"),
            ("Which musical instrument does she play?", "cello"),
        ],
    )
    async def test_meaning_is_found_where_no_word_is_shared(
        self, life: MemoryStore, query: str, name: str
    ) -> None:
        assert name not in await ranked(life, query, mode="text")
        assert name in await ranked(life, query, limit=2)

    @pytest.mark.parametrize(("query", "name"), [("QX-7719", "invoice"), ("Halvard", "jib")])
    async def test_a_rare_word_is_found_whatever_it_means(
        self, life: MemoryStore, query: str, name: str
    ) -> None:
        recall = await life.recall(query, log=False)
        assert recall.hits[0].id == name
        assert recall.hits[0].explanation.text_rank == 1

    async def test_relevance_falls_from_hit_to_hit(self, life: MemoryStore) -> None:
        recall = await life.recall("Where is the sourdough starter kept?", limit=20, log=False)
        relevances = [hit.relevance for hit in recall.hits]
        assert relevances == sorted(relevances, reverse=True)
        assert relevances[0] > 0.5 > relevances[5]


class TestNoMatch:
    @pytest.mark.parametrize("query", UNKNOWN)
    async def test_of_what_is_not_known_nothing_matches(
        self, sized: MemoryStore, query: str
    ) -> None:
        recall = await sized.recall(query, log=False)
        assert recall.no_match
        assert all(hit.relevance < 0.5 for hit in recall.hits)

    @pytest.mark.parametrize(
        "query", ["Where is the sourdough starter kept?", "What colour is the starter's jar?"]
    )
    async def test_what_is_known_matches(self, sized: MemoryStore, query: str) -> None:
        recall = await sized.recall(query, log=False)
        assert not recall.no_match
        assert recall.hits[0].id == "starter"

    async def test_in_an_empty_store_nothing_matches(self, tuned_home: Path) -> None:
        async with await MemoryStore.open(tuned_home) as store:
            recall = await store.recall("anything", log=False)
        assert (recall.hits, recall.no_match, recall.answerable) == ((), True, 0)


class TestNotEmbeddedYet:
    async def test_it_is_found_by_its_words(self, mixed: MemoryStore) -> None:
        recall = await mixed.recall("Where did Minna leave the zorbquark?", log=False)
        assert recall.hits[0].id == "late"
        assert not recall.no_match

    async def test_its_lack_of_vectors_is_not_held_against_it(self, mixed: MemoryStore) -> None:
        assert set(await ranked(mixed, "the zorbquark and the bicycle", limit=2)) == {
            "late",
            "bike",
        }

    @pytest.mark.parametrize("query", UNKNOWN)
    async def test_what_is_not_known_does_not_match(self, mixed: MemoryStore, query: str) -> None:
        assert (await mixed.recall(query, log=False)).no_match


class TestTuning:
    QUERY = "Which musical instrument is played at the hill on Saturdays?"

    async def test_it_is_used_at_once_by_a_store_already_open(self, tuned_home: Path) -> None:
        async with (
            await MemoryStore.open(tuned_home) as one,
            await MemoryStore.open(tuned_home) as other,
        ):
            await fill(one)
            before = await scores(other, self.QUERY)
            await one.tune(WORDS_ALONE)
            assert await other.tuning() == WORDS_ALONE
            assert await scores(other, self.QUERY) == await scores(one, self.QUERY) != before

    async def test_the_defaults_can_be_taken_back(self, tuned_home: Path) -> None:
        async with await MemoryStore.open(tuned_home) as store:
            await fill(store)
            before = await scores(store, self.QUERY)
            await store.tune(WORDS_ALONE)
            await store.tune(None)
            assert await store.tuning() is None
            assert await scores(store, self.QUERY) == before

    async def test_it_outlives_closing_and_an_index_anew(self, tuned_home: Path) -> None:
        async with await MemoryStore.open(tuned_home) as store:
            await fill(store)
            await store.tune(WORDS_ALONE)
            await store.reindex()
        async with await MemoryStore.open(tuned_home) as store:
            assert await store.tuning() == WORDS_ALONE

    async def test_it_belongs_to_its_model(self, tuned_home: Path, other_model: str) -> None:
        async with await MemoryStore.open(tuned_home) as store:
            await fill(store)
            await store.tune(WORDS_ALONE)
            await store.reindex(other_model)
            assert await store.tuning() is None
            await store.reindex("all-MiniLM-L6-v2")
            assert await store.tuning() == WORDS_ALONE

    async def test_a_threshold_decides_what_counts_as_no_match(self, tuned_home: Path) -> None:
        strict = Tuning(calibration=replace(DEFAULT_TUNING.calibration, threshold=1.1))
        async with await MemoryStore.open(tuned_home) as store:
            await fill(store)
            await store.tune(strict)
            assert (await store.recall(FACTS["bees"], log=False)).no_match


async def fill(store: MemoryStore) -> None:
    names = ("cello", "bees", "choir", "key")
    await store.remember_many([NewMemory(id=name, text=FACTS[name]) for name in names])


async def scores(store: MemoryStore, query: str) -> dict[str, float]:
    recall = await store.recall(query, log=False)
    return {hit.id: hit.explanation.score for hit in recall.hits}
