"""What an agent is told when it asks for the impossible: always what to do next."""

import pytest
from mcp import MCPError

from byheart_store import MemoryStore, StoreUnavailable

REFUSED = {
    "empty text": ("remember", {"text": "  "}, "text: is empty"),
    "no text": ("remember", {}, "text is required"),
    "2 MB of text": ("remember", {"text": "x " * 1_000_000}, "store it in parts"),
    "a date that is none": ("remember", {"text": "x", "at": "soon"}, "write 2026-03-14"),
    "10,000 tags": ("remember", {"text": "x", "tags": ["t"] * 10_000}, "at most"),
    "a tag that is none": ("remember", {"text": "x", "tags": "a, b"}, "tags"),
    "an old memory unknown": ("remember", {"text": "x", "replaces": "nobody"}, "nobody"),
    "an unknown argument": ("remember", {"text": "x", "tag": ["a"]}, "did you mean tags?"),
    "a foreign argument": ("recall", {"query": "x", "top_k": 3}, "it takes query, limit"),
    "empty query": ("recall", {"query": ""}, "query: is empty"),
    "a limit of 0": ("recall", {"query": "x", "limit": 0}, "from 1 to 1000"),
    "a limit of a million": ("recall", {"query": "x", "limit": 10**6}, "from 1 to 1000"),
    "a limit that is none": ("recall", {"query": "x", "limit": "many"}, 'not "many"'),
    "a text that is a number": ("remember", {"text": 5}, "valid string, not 5"),
    "after no date": ("recall", {"query": "x", "after": "2024-13-01"}, "after: "),
    "unknown recall": ("feedback", {"recall_id": "nobody", "useful": ["a"]}, "nobody"),
    "feedback on nothing": ("feedback", {"recall_id": "x", "useful": []}, "no ids given"),
    "forgetting everything": ("forget", {}, "namespace, session, before or tags"),
    "forgetting with no ids": ("forget", {"ids": []}, "needs ids"),
    "ids and a filter": ("forget", {"ids": ["a"], "session": "s"}, "not both"),
    "unknown ids": ("forget", {"ids": ["nobody"]}, "no memory has the id nobody"),
    "an unknown model": ("reindex", {"model": "/no/such/model"}, "/no/such/model"),
}


@pytest.mark.parametrize(("tool", "arguments", "hint"), REFUSED.values(), ids=REFUSED)
async def test_bad_argument_is_refused_with_what_to_do(talk, tool, arguments, hint):
    async with talk() as agent:
        refusal = await agent.refusal(tool, **arguments)
    assert hint in refusal
    assert len(refusal) < 400


@pytest.mark.parametrize(
    "text", ["\x00 null", "我喜欢喝茶", "أحب الشاي", "of the and", "🫖" * 1000]
)
async def test_unusual_text_is_stored_and_searched(talk, text):
    async with talk() as agent:
        memory_id = await agent.remember(text)
        await agent.recall(text)
        assert (await agent.read(f"memory://{memory_id}"))["text"] == text


async def test_unknown_tool_is_named(talk):
    async with talk() as agent:
        refusal = await agent.refusal("remembr", text="x")
    assert "'remembr'; did you mean remember? there are remember, recall" in refusal


async def test_null_is_an_argument_left_out(talk):
    async with talk() as agent:
        await agent.remember("Ana plays the cello.", tags=None, metadata=None)
        assert await agent.recall("cello", limit=None, explain=None, after=None)
        assert "text is required" in await agent.refusal("remember", text=None)


async def test_model_that_can_not_be_had_is_told_by_the_status(talk):
    async with talk(model="/no/such/model") as agent:
        await agent.client.call_tool("remember", {"text": "x"})
        status = await agent.read("byheart://status")
    assert "/no/such/model" in status["model_problem"]


async def test_unknown_memory_is_named(talk):
    async with talk() as agent:
        with pytest.raises(MCPError, match="no memory has the id 'nobody'"):
            await agent.read("memory://nobody")


async def test_home_that_is_a_file_is_told_by_every_call(talk, home):
    home.write_text("not a folder")
    async with talk() as agent:
        for _ in range(2):
            assert str(home) in await agent.refusal("recall", query="x")
        assert str(home) in (await agent.read("byheart://status"))["error"]


async def test_store_that_failed_to_open_is_tried_again(talk, home):
    home.write_text("not a folder")
    async with talk() as agent:
        await agent.refusal("recall", query="x")
        home.unlink()
        assert await agent.recall("x") == []


async def test_broken_store_never_looks_like_nothing_known(talk, monkeypatch, caplog):
    async def recall(self, *args, **more):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(MemoryStore, "recall", recall)
    async with talk() as agent:
        refusal = await agent.refusal("recall", query="x")
    assert "internal error in tool recall (RuntimeError); see the server's log" in refusal
    assert "disk on fire" in caplog.text


class PanicException(BaseException):
    """As a native library raises it: none of Exception's."""


@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt(), PanicException()])
@pytest.mark.parametrize("tool", ["feedback", "reindex"])
async def test_no_failure_of_a_tool_ends_the_session(talk, monkeypatch, tool, failure):
    async def fail(self, *args, **more):
        raise failure

    monkeypatch.setattr(MemoryStore, tool, fail)
    given = {"recall_id": "x", "useful": ["a"]} if tool == "feedback" else {}
    async with talk(mode="legacy") as agent:
        assert "internal error" in await agent.refusal(tool, **given)
        assert await agent.recall("still there?") == []


async def test_cancelled_work_of_the_store_does_not_end_the_session(talk, monkeypatch):
    import asyncio

    async def recall(self, *args, **more):
        raise asyncio.CancelledError

    monkeypatch.setattr(MemoryStore, "recall", recall)
    async with talk(mode="legacy") as agent:
        assert "try again" in await agent.refusal("recall", query="x")
        await agent.remember("Ana plays the cello.")


async def test_message_of_the_store_arrives_as_it_is(talk, monkeypatch):
    async def recall(self, *args, **more):
        raise StoreUnavailable("the disk is full; make room")

    monkeypatch.setattr(MemoryStore, "recall", recall)
    async with talk() as agent:
        assert await agent.refusal("recall", query="x") == "the disk is full; make room"


def test_lone_surrogates_are_answered(wire):
    answer = wire.call("remember", text="half a \ud83d smile, a whole 😀")
    memory_id = answer["result"]["structuredContent"]["id"]
    memory = wire.ask("resources/read", {"uri": f"memory://{memory_id}"})
    assert "half a \ufffd smile, a whole 😀" in memory["result"]["contents"][0]["text"]
