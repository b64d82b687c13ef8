"""The loop closed: recalls and feedback over MCP, a retraining, a promotion, a way back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from ..world import memories, questions
from .conftest import Agent, Talk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FOUND = 50


async def command(*arguments: str, environment: dict[str, str]) -> dict[str, Any]:
    """A command of a process of its own, beside the running server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "byheart_server", *arguments, "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out)
    return answer | {"code": process.returncode}


async def ranks(agent: Agent) -> list[list[str]]:
    """The hits of every question, in rank order, by the model that serves now."""
    while (await agent.call("recall", query="Who?"))["degraded"]:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return [
        [hit["id"] for hit in await agent.recall(asked.question, limit=FOUND)]
        for asked in questions()
    ]


def found_first(rankings: list[list[str]], ids: list[str]) -> float:
    """The share of questions whose answer stands first."""
    right = [
        bool(hits) and hits[0] == ids[asked.answer]
        for asked, hits in zip(questions(), rankings, strict=True)
    ]
    return sum(right) / len(right)


async def test_an_agent_s_feedback_makes_its_recalls_better_and_a_rollback_undoes_it(
    talk_to_process: Talk, environment: dict[str, str]
) -> None:
    async with talk_to_process() as agent:
        ids = [await agent.remember(text) for text in memories()]
        for asked in questions():
            answer = await agent.call("recall", query=asked.question, limit=FOUND)
            hits = [hit["id"] for hit in answer["hits"]]
            if ids[asked.answer] in hits:
                useful = [ids[asked.answer]]
                await agent.call("feedback", recall_id=answer["recall_id"], useful=useful)
        await agent.call("reindex")  # as a promotion does: scores of words follow their index
        before = await ranks(agent)

        learnt = await command("retrain", "--promote", "--no-reranker", environment=environment)
        assert learnt["code"] == 0, learnt["reason"]
        assert learnt["promoted"]
        after = await ranks(agent)
        assert found_first(after, ids) > found_first(before, ids) + 0.2

        undone = await command("models", "rollback", environment=environment)
        assert undone["code"] == 0
        assert await ranks(agent) == before
