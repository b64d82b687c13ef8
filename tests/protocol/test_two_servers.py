"""Two servers on one home are one memory."""

import asyncio

import pytest

pytestmark = pytest.mark.reliability


async def test_each_sees_at_once_what_the_other_stored(talk_to_process):
    async with talk_to_process() as first, talk_to_process() as second:
        for turn in range(3):
            told = await first.remember(f"Ana's locker number {turn} is at the pool.")
            assert told in [hit["id"] for hit in await second.recall(f"locker number {turn}")]
            answered = await second.remember(f"Ben's bike number {turn} is in the shed.")
            assert answered in [hit["id"] for hit in await first.recall(f"bike number {turn}")]


async def test_each_forgets_what_the_other_forgot(talk_to_process):
    async with talk_to_process() as first, talk_to_process() as second:
        memory_id = await first.remember("Ana plays the cello.")
        await second.call("forget", ids=[memory_id])
        assert await first.recall("cello") == []


async def test_feedback_reaches_a_recall_of_the_other(talk_to_process):
    async with talk_to_process() as first, talk_to_process() as second:
        memory_id = await first.remember("Ana plays the cello.")
        found = await first.call("recall", query="cello")
        counts = await second.call("feedback", recall_id=found["recall_id"], useful=[memory_id])
    assert counts["useful"] == 1


async def test_nothing_is_lost_when_both_write_at_once(talk_to_process):
    async with talk_to_process() as first, talk_to_process() as second:
        writes = [
            agent.remember(f"{name} saw bird number {number}.")
            for name, agent in (("Ana", first), ("Ben", second))
            for number in range(10)
        ]
        ids = await asyncio.gather(*writes)
        status = await first.read("byheart://status")
    assert len(set(ids)) == 20
    assert status["memories"] == 20
