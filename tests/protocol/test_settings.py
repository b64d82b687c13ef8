"""What a server is told by its environment."""

from pathlib import Path

import pytest

from byheart_server.settings import Settings
from byheart_store import InvalidInput
from byheart_store.recall import journal


def test_environment_names_place_and_model():
    settings = Settings.from_environment({"BYHEART_HOME": "/data", "BYHEART_MODEL": "my-model"})
    assert settings == Settings(home=Path("/data"), model="my-model", log_recalls=True)


def test_home_is_the_platforms_data_folder_unless_named():
    assert Settings.from_environment({}).home.name == "byheart"


def test_home_may_start_with_a_tilde():
    assert Settings.from_environment({"BYHEART_HOME": "~/m"}).home == Path.home() / "m"


@pytest.mark.parametrize(("value", "logged"), [("off", False), ("0", False), ("Yes", True)])
def test_recall_log_is_switched(value, logged):
    assert Settings.from_environment({"BYHEART_LOG_RECALLS": value}).log_recalls is logged


def test_switch_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="'maybe' must be on or off"):
        Settings.from_environment({"BYHEART_LOG_RECALLS": "maybe"})


async def test_recalls_are_not_logged_when_switched_off(talk, monkeypatch):
    monkeypatch.setattr(journal, "LOGGED_WITHIN", 0.5)
    async with talk(log_recalls=False) as agent:
        memory_id = await agent.remember("Ana plays the cello.")
        found = await agent.call("recall", query="cello")
        refusal = await agent.refusal("feedback", recall_id=found["recall_id"], useful=[memory_id])
    assert found["recall_id"] in refusal


@pytest.mark.parametrize(("value", "durability"), [("os", "os"), ("FSYNC", "fsync"), ("", "fsync")])
def test_durability_is_chosen(value, durability):
    assert Settings.from_environment({"BYHEART_DURABILITY": value}).durability == durability


@pytest.mark.parametrize(
    ("value", "days"), [("", 30), ("off", None), ("No", None), ("0", 0), ("1", 1), ("0.5", 0.5)]
)
def test_purging_is_put_off_for_days_or_for_ever(value, days):
    settings = Settings.from_environment({"BYHEART_PURGE_AFTER_DAYS": value})
    assert settings.purge_after_days == days


@pytest.mark.parametrize(
    ("name", "value"),
    [("DURABILITY", "always"), ("PURGE_AFTER_DAYS", "-1"), ("PURGE_AFTER_DAYS", "soon"),
     ("PURGE_AFTER_DAYS", "nan"), ("PURGE_AFTER_DAYS", "inf")],
)  # fmt: skip
def test_a_value_that_is_none_is_refused(name, value):
    with pytest.raises(InvalidInput, match=f"BYHEART_{name}: '{value}' must be"):
        Settings.from_environment({f"BYHEART_{name}": value})
