"""What ByHeart reads of Lance's files without the engine: a new version may write it otherwise."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pyarrow as pa

from byheart_store.tables.lance_manifest import MANIFEST_SUFFIX, Manifest, read_manifest

MOVED = "Lance writes {} otherwise: mend byheart_store/tables/lance_manifest.py"


def rows(first: int) -> pa.Table:
    return pa.table({"id": pa.array(range(first, first + 100)), "word": ["tulip"] * 100})


async def grown(folder: Path) -> tuple[lancedb.table.AsyncTable, list[Manifest]]:
    """A table of three fragments, deleted rows and an index, and the manifests of all versions."""
    database = await lancedb.connect_async(str(folder))
    table = await database.create_table("words", rows(0))
    await table.add(rows(100))
    await table.add(rows(200))
    await table.delete("id % 10 = 0 AND id < 200")
    await table.create_index("id")
    versions = (folder / "words.lance" / "_versions").glob(f"*{MANIFEST_SUFFIX}")
    manifests = sorted(map(read_manifest, versions), key=lambda one: one.version)
    return table, manifests


async def test_a_manifest_tells_what_the_engine_tells(tmp_path: Path) -> None:
    table, manifests = await grown(tmp_path)
    assert [one.version for one in manifests] == list(range(1, 6)), MOVED.format("its versions")
    latest = manifests[-1]
    assert latest.rows == await table.count_rows() == 280, MOVED.format("its row counts")
    assert len(latest.fragments) == 3, MOVED.format("its fragments")
    assert [one.deleted for one in latest.fragments] == [10, 10, 0], MOVED.format("its deletions")
    columns = [file.columns for part in latest.fragments for file in part.files]
    assert set(columns) == {frozenset({"id", "word"})}, MOVED.format("its columns")
    assert len(latest.indexes) == 1, MOVED.format("its indexes")
    assert latest.made is not None, MOVED.format("its times")


async def test_a_manifest_names_the_files_there_are(tmp_path: Path) -> None:
    _, manifests = await grown(tmp_path)
    folder = tmp_path / "words.lance"
    named = {name: size for one in manifests for name, size in one.sizes().items()}
    assert named, MOVED.format("its files")
    for name, size in named.items():
        assert (folder / name).is_file(), MOVED.format("the paths of its files")
        assert size in (None, (folder / name).stat().st_size), MOVED.format(
            "the sizes of its files"
        )
