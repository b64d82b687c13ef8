"""What a token allows: its tools, its namespaces, and not a word of anything else."""

from __future__ import annotations

import json

import pytest
from mcp import MCPError

from .serving import GENERATIONS, Served

TOOLS = {
    "guest": ["recall"],
    "ana": ["remember", "recall", "feedback", "forget"],
    "ops": ["remember", "recall", "feedback", "forget", "reindex"],
}
HOSTILE = [
    "ben", "BEN", "ben'", "' OR '1'='1", "ana') OR ('1'='1", "%", "be_", "*", "ben\x00", "nobody",
]  # fmt: skip


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.parametrize("token", TOOLS)
async def test_a_token_sees_the_tools_that_it_may_use(
    server: Served, token: str, mode: str
) -> None:
    async with server.agent(token, mode) as agent:
        assert [tool.name for tool in (await agent.client.list_tools()).tools] == TOOLS[token]


@pytest.mark.parametrize("mode", GENERATIONS)
async def test_a_tool_that_takes_more_says_which_access(server: Served, mode: str) -> None:
    async with server.agent("guest", mode) as guest:
        refusal = await guest.refusal("remember", text="Ana plays the cello.")
        assert refusal.startswith("remember takes write access, and this token has read")
    async with server.agent("ana", mode) as ana:
        assert "takes admin access" in await ana.refusal("reindex")


@pytest.mark.parametrize("mode", GENERATIONS)
async def test_a_memory_is_its_tokens_alone(server: Served, mode: str) -> None:
    async with server.agent("ana", mode) as ana, server.agent("ben", mode) as ben:
        memory_id = await ana.remember(f"Ana hides the {mode} key under the barometer.")
        found = await ana.call("recall", query="barometer key")
        assert await ben.recall("barometer key") == []
        assert memory_id in await ben.refusal("forget", ids=[memory_id])
        assert "no memory has" in await ben.refusal("remember", text="x", replaces=memory_id)
        judged = await ben.refusal("feedback", recall_id=found["recall_id"], useful=[memory_id])
        assert judged == (
            await ben.refusal("feedback", recall_id="nobody", useful=[memory_id])
        ).replace("nobody", found["recall_id"])
        with pytest.raises(MCPError, match="no memory has the id"):
            await ben.read(f"memory://{memory_id}")
        assert (await ana.recall("barometer key"))[0]["id"] == memory_id


async def test_a_namespace_is_refused_alike_whether_or_not_it_exists(server: Served) -> None:
    calls = {"recall": {"query": "x"}, "remember": {"text": "x"}, "forget": {"session": "s"}}
    async with server.agent("ben") as ben:
        await ben.remember("Ben keeps bees.")
    async with server.agent("ana") as ana:
        for tool, given in calls.items():
            refusal = await ana.refusal(tool, namespace="ben", **given)
            assert refusal == (await ana.refusal(tool, namespace="bob", **given)).replace(
                "bob", "ben"
            )
            for namespace in HOSTILE:
                assert "namespace: " in await ana.refusal(tool, namespace=namespace, **given)


async def test_a_token_of_two_namespaces_reaches_both(server: Served) -> None:
    async with server.agent("ana") as ana:
        await ana.remember("The anvil is in the barn.")
        await ana.remember("The anvil is in the loft.", namespace="shared by ana")
        hits = await ana.recall("Where is the anvil?")
    assert {hit["namespace"] for hit in hits[:2]} == {"ana", "shared by ana"}


async def test_the_status_counts_what_the_token_reaches_and_names_no_place(server: Served) -> None:
    async with server.agent("ben") as ben:
        await ben.remember("Ben keeps bees.")
        status = await ben.read("byheart://status")
    assert set(status["namespaces"]) == {"ben"}
    assert status["memories"] == 1
    assert not {"home", "location", "model", "bytes"} & set(status)
    assert str(server.log.parent) not in json.dumps(status)
    async with server.agent("ops") as ops:
        assert (await ops.read("byheart://status"))["home"] == str(server.log.parent / "home")


@pytest.mark.parametrize("mode", GENERATIONS)
async def test_a_memory_tells_who_brought_it(server: Served, mode: str) -> None:
    async with server.agent("ana", mode) as ana:
        memory_id = await ana.remember(f"Ana sails, says the {mode} client.")
        (hit, *_) = await ana.recall(f"Who sails, {mode}?")
        memory = await ana.read(f"memory://{memory_id}")
    assert (hit["client"], hit["token"]) == ("tester 7", "ana")
    assert (memory["client"], memory["token"]) == ("tester 7", "ana")
    assert hit["stored"][:16] == memory["created"][:16]


async def test_who_brought_it_is_no_argument(server: Served) -> None:
    async with server.agent("ana") as ana:
        for forged in ("token", "client", "created", "stored", "id"):
            assert "has no argument" in await ana.refusal("remember", text="x", **{forged: "ben"})


@pytest.mark.parametrize("mode", GENERATIONS)
async def test_a_write_sent_again_with_its_key_is_stored_once(server: Served, mode: str) -> None:
    async with server.agent("ana", mode) as ana:
        first = await ana.call("remember", text=f"It rains in {mode}.", key=mode, session="one")
        again = await ana.call("remember", text=f"It rains in {mode}.", key=mode, session="one")
        assert (again["id"], again["status"]) == (first["id"], "duplicate")
        assert "key" in await ana.refusal("remember", text="It snows.", key=mode)


async def test_only_who_sees_all_texts_sees_how_rare_their_words_are(server: Served) -> None:
    seen = {}
    for token in ("ana", "ops"):
        async with server.agent(token) as agent:
            await agent.remember("A theremin stands in the attic.", namespace="ana")
            hit, *_ = await agent.recall("theremin", namespace="ana", explain=True)
            seen[token] = set(hit["explanation"])
    assert seen["ops"] - seen["ana"] == {"text_score", "score"}
    assert "cosine" in seen["ana"]
