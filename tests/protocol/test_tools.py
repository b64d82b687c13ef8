"""What an agent can do with the five tools and the two resources."""

from datetime import UTC, datetime

import pytest
from mcp.types import ToolAnnotations

TALE = "The lighthouse keeper of Skagen wrote in his diary about the storm of 1911. "


async def test_remembered_text_is_recalled(talk):
    async with talk() as agent:
        memory_id = await agent.remember(
            "Ana is allergic to walnuts.", speaker="Ana", tags=["health"]
        )
        (hit,) = await agent.recall("What is Ana allergic to?")
    assert (hit["id"], hit["text"]) == (memory_id, "Ana is allergic to walnuts.")
    assert (hit["namespace"], hit["speaker"], hit["tags"]) == ("default", "Ana", ["health"])
    assert 0 < hit["relevance"] <= 1


async def test_initialize_handshake_of_older_clients_is_spoken(talk):
    async with talk(mode="legacy") as agent:
        await agent.remember("Ana is allergic to walnuts.")
        assert len(await agent.recall("walnuts")) == 1


async def test_memory_happened_now_unless_told_otherwise(talk):
    async with talk() as agent:
        await agent.remember("Ana moved to Porto.")
        await agent.remember("Ana moved to Lisbon.", at="2024-05-01")
        hits = await agent.recall("Where did Ana move?", before="2025-01-01")
        (recent,) = await agent.recall("Where did Ana move?", after="2025-01-01")
    assert [hit["at"] for hit in hits] == ["2024-05-01T00:00:00Z"]
    assert recent["text"] == "Ana moved to Porto."


async def test_same_text_again_is_the_same_memory(talk):
    async with talk() as agent:
        first = await agent.call("remember", text="Ana plays the cello.")
        again = await agent.call("remember", text="Ana plays the cello.")
    assert (first["status"], again) == ("stored", {"id": first["id"], "status": "duplicate"})


async def test_replaced_memory_is_not_recalled(talk):
    async with talk() as agent:
        old = await agent.remember("Ana works at the harbour office.")
        new = await agent.call("remember", text="Ana works at the museum.", replaces=old)
        hits = await agent.recall("Where does Ana work?")
    assert new["status"] == "replaced"
    assert [hit["id"] for hit in hits] == [new["id"]]


async def test_what_was_known_at_an_earlier_moment_can_be_asked_for(talk):
    async with talk() as agent:
        old = await agent.remember("Ana works at the harbour office.")
        then = datetime.now(UTC).isoformat()
        await agent.call("remember", text="Ana works at the museum.", replaces=old)
        hits = await agent.recall("Where does Ana work?", as_of=then)
    assert [hit["id"] for hit in hits] == [old]


async def test_the_latest_of_equals_comes_first_when_asked_for(talk):
    async with talk() as agent:
        long_ago = await agent.remember("Ana drinks oolong tea.", at="2019-05-01")
        await agent.remember("Ana drinks sencha tea.")
        hits = await agent.recall("What tea does Ana drink?", prefer_recent=True)
    assert hits[-1]["id"] == long_ago


async def test_recall_keeps_to_its_filters(talk):
    async with talk() as agent:
        await agent.remember("The tea is in the blue tin.", namespace="home/küche 🫖", session="s1")
        await agent.remember("The tea is in the drawer.", namespace="office", tags=["tea"])
        (kitchen,) = await agent.recall("Where is the tea?", namespace="home/küche 🫖")
        (session,) = await agent.recall("Where is the tea?", session="s1")
        (tagged,) = await agent.recall("Where is the tea?", tags=["tea"])
    assert kitchen["id"] == session["id"]
    assert tagged["namespace"] == "office"


async def test_nothing_known_is_said(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
        answer = await agent.call("recall", query="zebra exhaust manifold torque")
    assert answer["no_match"] is True


async def test_absent_fields_cost_no_tokens(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
        (hit,) = await agent.recall("cello")
    assert set(hit) == {"id", "text", "relevance", "namespace", "at", "client", "stored"}


async def test_explain_adds_ranks_and_scores(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
        (hit,) = await agent.recall("cello", explain=True)
    assert hit["explanation"]["text_rank"] == 1


async def test_long_memory_is_shown_in_part_and_read_in_full(talk):
    text = TALE * 60 + "The spare key hangs behind the barometer. " + TALE * 60
    async with talk() as agent:
        memory_id = await agent.remember(text)
        (hit,) = await agent.recall("Where does the spare key hang?")
        memory = await agent.read(f"memory://{memory_id}")
    assert "behind the barometer" in hit["text"]
    assert hit["excerpt"]["length"] == len(text)
    assert hit["text"] == text[hit["excerpt"]["start"] : hit["excerpt"]["end"]]
    assert memory["text"] == text


async def test_token_budget_of_a_recall_is_kept(talk):
    async with talk() as agent:
        for year in range(1900, 1910):
            await agent.remember(f"In {year} " + TALE)
        hits = await agent.recall("storm diary", max_tokens=60)
    assert 1 <= len(hits) < 4


async def test_feedback_counts_its_labels(talk):
    async with talk() as agent:
        useful = await agent.remember("Ana plays the cello.")
        other = await agent.remember("Ana sold her cello in March.")
        found = await agent.call("recall", query="Ana's cello")
        counts = await agent.call(
            "feedback", recall_id=found["recall_id"], useful=[useful], not_useful=[other]
        )
    assert counts == {"useful": 1, "not_useful": 1}


async def test_forgotten_memory_is_not_recalled(talk):
    async with talk() as agent:
        memory_id = await agent.remember("Ana plays the cello.")
        gone = await agent.call("forget", ids=[memory_id])
        assert await agent.recall("cello") == []
    assert gone == {"count": 1, "dry_run": False, "ids": [memory_id]}


async def test_forget_by_filter_spares_the_rest(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.", session="s1")
        kept = await agent.remember("Ana sold her cello.", session="s2")
        gone = await agent.call("forget", session="s1")
        hits = await agent.recall("cello")
    assert gone["count"] == 1
    assert [hit["id"] for hit in hits] == [kept]


async def test_dry_run_forgets_nothing(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.", at="2020-01-01")
        would = await agent.call("forget", before="2021-01-01", dry_run=True)
        assert len(await agent.recall("cello")) == 1
    assert would == {"count": 1, "dry_run": True}


async def test_ids_that_were_missing_are_named(talk):
    async with talk() as agent:
        memory_id = await agent.remember("Ana plays the cello.")
        gone = await agent.call("forget", ids=[memory_id, "nobody"])
    assert (gone["ids"], gone["missing"]) == ([memory_id], ["nobody"])


async def test_reindex_tells_what_it_did(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
        done = await agent.call("reindex")
    assert set(done) == {"model", "rows", "seconds"}


async def test_reindex_reports_progress_while_it_runs(talk, monkeypatch):
    async def reindex(self, model, progress):
        for done in (1, 2):
            progress(done, 2)
        return Reindexed(model="some-model", rows=2, seconds=0.1)

    from byheart_store import MemoryStore, Reindexed

    monkeypatch.setattr(MemoryStore, "reindex", reindex)
    steps = []

    async def progress(done, total, _message):
        steps.append((done, total))

    async with talk(mode="legacy") as agent:
        await agent.client.call_tool("reindex", {}, progress_callback=progress)
    assert steps == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "memory_id", ["conv-26:D1:1", "notes/2024/día 1?#x%2F", "..", "/etc/hosts"]
)
async def test_memory_is_read_by_any_id(talk, home, memory_id):
    from urllib.parse import quote

    from byheart_store import MemoryStore, NewMemory

    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana plays the cello.", id=memory_id))
    async with talk() as agent:
        memory = await agent.read("memory://" + quote(memory_id, safe=""))
    assert memory["id"] == memory_id


async def test_id_with_slashes_needs_no_encoding(talk, home):
    from byheart_store import MemoryStore, NewMemory

    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana plays the cello.", id="conv-26:D1/1"))
    async with talk() as agent:
        assert (await agent.read("memory://conv-26:D1/1"))["text"] == "Ana plays the cello."


async def test_status_tells_place_model_and_counts(talk, home):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
        status = await agent.read("byheart://status")
    assert (status["home"], status["memories"], status["model_state"]) == (str(home), 1, "ready")
    assert {"version", "location", "model", "namespaces"} <= set(status)


async def test_server_says_when_to_use_memory(talk):
    async with talk() as agent:
        instructions = agent.client.instructions
    assert len(instructions.encode()) < 2048
    for word in ("recall", "remember", "feedback", "replaces", "no_match", "not instructions"):
        assert word in instructions


async def test_annotations_tell_what_a_tool_changes(talk):
    async with talk() as agent:
        tools = {tool.name: tool.annotations for tool in (await agent.client.list_tools()).tools}
    assert tools.keys() == {"remember", "recall", "feedback", "forget", "reindex"}
    assert all(hints.open_world_hint is False for hints in tools.values())
    assert [name for name, hints in tools.items() if hints.read_only_hint] == ["recall"]
    assert [name for name, hints in tools.items() if hints.destructive_hint] == ["forget"]
    assert isinstance(tools["recall"], ToolAnnotations)
