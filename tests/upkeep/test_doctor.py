"""What doctor finds, what it mends, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from byheart_store import MemoryStore, NewMemory, StoreUnavailable
from byheart_store.tables import schema
from byheart_store.upkeep.repair import Doctor

from .conftest import (
    LONG,
    data_files,
    every_byte,
    latest_manifest,
    opened,
    table_folder,
    texts,
)

Damage = Callable[[Path], Awaitable[None]]


async def drop_the_index(home: Path) -> None:
    table = await opened(home)
    for index in await table.list_indices():
        await table.drop_index(index.name)


async def cut_the_index(home: Path) -> None:
    for path in (table_folder(home) / "_indices").rglob("*.lance"):
        path.write_bytes(path.read_bytes()[:40])


async def flip_a_bit(home: Path) -> None:
    content = bytearray(data_files(home)[0].read_bytes())
    content[len(content) // 3] ^= 16
    data_files(home)[0].write_bytes(bytes(content))


async def garble_the_manifest(home: Path) -> None:
    latest_manifest(home).write_bytes(b"garbage")


async def remove_the_manifest(home: Path) -> None:
    latest_manifest(home, schema.RECALLS).unlink()


async def cut_a_record(home: Path) -> None:
    path = min((table_folder(home) / "_transactions").iterdir())
    path.write_bytes(path.read_bytes()[:-1])


async def leave_a_file(home: Path) -> None:
    (table_folder(home) / "data" / "01.lance").write_bytes(b"half a wri")


async def leave_a_staging_folder(home: Path) -> None:
    (home / "staging").mkdir()


async def cut_the_log(home: Path) -> None:
    data_files(home, schema.RECALLS)[0].write_bytes(b"")


async def lose_a_passage(home: Path) -> None:
    await (await opened(home)).delete("id = 'long' AND passage = 1")


async def zero_a_vector(home: Path) -> None:
    table = await opened(home)
    (column,) = (name for name in (await table.schema()).names if name.startswith("vector_"))
    await put_vectors(home, column, np.zeros((1, 384), np.float32), ["vet"])


async def exchange_vectors(home: Path) -> None:
    table = await opened(home)
    (column,) = (name for name in (await table.schema()).names if name.startswith("vector_"))
    rows = await table.query().where("id IN ('vet', 'lena')").select([column, "id"]).to_arrow()
    vectors = np.array(rows.column(column).to_pylist(), np.float32)
    await put_vectors(home, column, vectors[::-1], rows.column("id").to_pylist())


async def put_vectors(home: Path, column: str, vectors: np.ndarray, ids: list[str]) -> None:  # type: ignore[type-arg]
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    passages = pa.array([0] * len(ids), pa.int32())
    rows = pa.table({"id": ids, "passage": passages, column: values})
    merge = (await opened(home)).merge_insert(["id", "passage"]).when_matched_update_all()
    await merge.execute(rows)


async def garble_the_description(home: Path) -> None:
    await describe(home, '{"format": 3, "act')


async def interrupt_a_switch(home: Path) -> None:
    table = await opened(home)
    values = json.loads(schema.description_of(await table.schema()).to_json())
    gone = values["columns"][0] | {"column": "vector_x", "model": "/gone", "fingerprint": "x"}
    values |= {"columns": [*values["columns"], gone], "pending": "vector_x"}
    await describe(home, json.dumps(values))


async def describe(home: Path, description: str) -> None:
    metadata = {schema.DESCRIPTION_KEY: description}
    await (await opened(home)).update_field_metadata(
        {"path": schema.DESCRIBED_FIELD, "metadata": metadata}
    )


DAMAGES: dict[Damage, str] = {
    drop_the_index: "index",
    cut_the_index: "index",
    flip_a_bit: "data",
    garble_the_manifest: "manifest",
    remove_the_manifest: "manifest",
    leave_a_file: "orphan",
    cut_a_record: "orphan",
    leave_a_staging_folder: "orphan",
    cut_the_log: "data",
    lose_a_passage: "passage",
    zero_a_vector: "vector",
    exchange_vectors: "vector",
    garble_the_description: "description",
    interrupt_a_switch: "reindex",
}


async def test_a_sound_store_is_healthy(sound: Path) -> None:
    found = await Doctor(sound).examine()
    assert (found.healthy, found.findings, found.memories) == (True, [], 4)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damage_is_found_without_a_change_and_then_mended(
    damage: Damage, sound: Path
) -> None:
    await damage(sound)
    before = every_byte(sound)
    found = await Doctor(sound).examine()
    assert every_byte(sound) == before
    assert not found.healthy
    assert {finding.kind for finding in found.findings} == {DAMAGES[damage]}
    mended = await Doctor(sound).mend()
    assert {finding.kind for finding in mended.findings} == {DAMAGES[damage]}
    assert (mended.healthy, mended.lost, mended.lost_rows) == (True, (), 0)
    assert (await Doctor(sound, thorough=True).examine()).findings == []
    async with await MemoryStore.open(sound, durability="os") as store:
        assert (await store.recall("Who is the vet?")).hits[0].id == "vet"
        assert (await store.get("long")).text == LONG
        assert (await store.remember(NewMemory(text="New."))).status == "stored"


async def test_memories_of_a_lost_file_are_named_and_the_others_kept(sound: Path) -> None:
    for path in table_folder(sound).rglob("_versions/*"):
        if path != latest_manifest(sound):
            path.unlink()
    data_files(sound)[-1].unlink()
    found = await Doctor(sound).mend()
    assert (found.healthy, found.memories, found.lost_rows) == (True, 3, 1)
    assert (await texts(sound)).keys() == {"vet", "july", "long"}


async def test_what_is_lost_comes_back_from_an_earlier_version(sound: Path) -> None:
    table = await opened(sound)
    await table.optimize()
    data_files(sound)[0].unlink()
    found = await Doctor(sound).mend()
    assert (found.healthy, found.memories, found.lost_rows) == (True, 4, 0)


async def test_an_altered_text_is_not_served(sound: Path) -> None:
    table = await opened(sound)
    await table.update({"text": "Biscuit's vet is Dr. Nobody."}, where="id = 'vet'")
    found = await Doctor(sound).mend()
    assert [finding.kind for finding in found.findings] == ["text"]
    assert found.lost == ("vet",)
    assert (await texts(sound)).keys() == {"july", "long", "lena"}
    assert found.set_aside is not None
    assert "Nobody" in (found.set_aside / "remains-of-memories.jsonl").read_text()


async def test_passages_without_a_memory_are_set_aside(sound: Path) -> None:
    await (await opened(sound)).delete("id = 'long' AND passage = 0")
    found = await Doctor(sound).mend()
    assert (found.lost, found.memories, found.healthy) == (("long",), 3, True)
    assert found.set_aside is not None
    assert "why" in [path.stem for path in found.set_aside.iterdir()]


async def test_without_a_copy_of_the_manifest_the_version_before_serves(sound: Path) -> None:
    (sound / "ledger" / "spare" / "memories" / latest_manifest(sound).name).unlink()
    latest_manifest(sound).unlink()
    found = await Doctor(sound).mend()
    assert found.healthy
    assert "can't be read" in found.findings[0].what
    assert {"vet", "july", "long"} <= (await texts(sound)).keys()
    assert (await Doctor(sound).examine()).findings == []


async def test_without_any_manifest_the_memories_are_left_alone(sound: Path) -> None:
    for path in [*(sound / "ledger").rglob("*.manifest"), *table_folder(sound).rglob("*.manifest")]:
        path.unlink()
    found = await Doctor(sound).mend()
    assert not found.healthy
    assert "restore" in found.findings[0].remedy
    assert list(table_folder(sound).rglob("data/*"))


async def test_a_store_of_a_newer_format_is_left_alone(sound: Path) -> None:
    await describe(sound, '{"format": 99}')
    leftover = table_folder(sound) / "data" / "01.lance"
    leftover.write_bytes(b"?")
    before = every_byte(sound)
    found = await Doctor(sound).mend()
    assert every_byte(sound) == before
    assert [finding.kind for finding in found.findings] == ["format"]
    assert not found.healthy


async def test_a_store_without_digests_is_examined_as_well(sound: Path) -> None:
    (sound / "ledger" / "files.txt").unlink()
    data_files(sound)[-1].write_bytes(b"no longer a file of Lance")
    found = await Doctor(sound).mend()
    assert [finding.kind for finding in found.findings] == ["data"]
    assert (found.memories, (await Doctor(sound).examine()).healthy) == (4 - found.lost_rows, True)


async def test_a_store_of_an_earlier_format_is_mended_as_it_is(sound: Path) -> None:
    table = await opened(sound)
    values = json.loads(schema.description_of(await table.schema()).to_json())
    await describe(sound, json.dumps(values | {"format": 2}))
    await table.drop_columns(["client", "token"])
    assert (await Doctor(sound).examine()).findings == []
    await lose_a_passage(sound)
    assert (await Doctor(sound).mend()).healthy
    assert len(await texts(sound)) == 4


async def test_forgotten_memories_stay_away_where_their_list_is_damaged(sound: Path) -> None:
    async with await MemoryStore.open(sound, durability="os") as store:
        await store.forget(["july"])
    (deletions,) = (table_folder(sound) / "_deletions").iterdir()
    deletions.write_bytes(b"")
    found = await Doctor(sound).mend()
    assert (found.healthy, found.memories, found.lost_rows) == (True, 3, 0)
    assert "july" not in await texts(sound)


async def test_forgotten_memories_may_come_back_where_its_copy_is_gone_too(sound: Path) -> None:
    async with await MemoryStore.open(sound, durability="os") as store:
        await store.forget(["july"])
    (deletions,) = (table_folder(sound) / "_deletions").iterdir()
    deletions.unlink()
    (sound / "ledger" / "spare" / "memories" / deletions.name).unlink()
    found = await Doctor(sound).mend()
    assert "forget them again" in found.findings[0].remedy
    assert len(await texts(sound)) == 4


async def test_an_open_store_serves_what_was_mended(sound: Path) -> None:
    async with await MemoryStore.open(sound) as store:
        await store.recall("Who is the vet?")
        await garble_the_manifest(sound)
        await lose_a_file_and_mend(sound)
        recall = await store.recall("Where does Lena live?")
        assert "lena" in [hit.id for hit in recall.hits]
        receipt = await store.remember(NewMemory(text="Lena likes the harbour."))
        assert (await store.get(receipt.id)).text == "Lena likes the harbour."


async def lose_a_file_and_mend(home: Path) -> None:
    assert (await Doctor(home).mend()).healthy
    await flip_a_bit(home)
    assert (await Doctor(home).mend()).healthy


async def test_a_home_without_a_store_is_no_healthy_one(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store at"):
        await Doctor(tmp_path).examine()
    assert every_byte(tmp_path) == {}
