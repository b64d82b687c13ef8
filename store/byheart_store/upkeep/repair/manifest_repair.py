"""The latest manifest of a table, without which it does not open."""

from __future__ import annotations

from pathlib import Path

from byheart_store.tables import schema
from byheart_store.tables.lance_manifest import VERSION_HINT, VERSIONS, version_of
from byheart_store.tables.ledger import replace_bytes, sync_folder
from byheart_store.upkeep.damage import TableFiles
from byheart_store.upkeep.repair.visit import Visit


async def mend_manifest(visit: Visit, files: TableFiles) -> TableFiles:
    """See to the latest manifest, without which a table does not open."""
    reason = files.bad_manifest
    if reason is None:
        return files
    readable = files.newest_readable
    if files.spare is not None:
        what, remedy = "nothing is lost", "it is put back from its copy in the ledger"
    elif readable is not None:
        since = f"{readable.made:%Y-%m-%d %H:%M:%S} UTC" if readable.made else "it"
        what = f"what was written after {since} can't be read"
        remedy = f"version {readable.version} takes its place; all files are kept in set-aside"
    elif files.name != schema.MEMORIES:
        what = f"the {files.name} can't be read; no memory is affected"
        remedy = "the table is set aside whole and made anew, empty"
    else:
        what = "no version of the memories can be read; their files are left as they are"
        remedy = "bring back a backup: byheart restore FILE --replace"
    finding = visit.found.add(
        "manifest",
        files.name,
        f"the latest manifest (version {files.latest}) is {reason}: {what}",
        remedy,
    )
    if not visit.repair:
        return files
    if files.spare is not None:
        _put_back(visit, files, files.spare)
    elif readable is not None:
        await _return_to(visit, files, readable.version)
    elif files.name != schema.MEMORIES:
        visit.set_aside.move(files.folder, "no version of it can be read")
        visit.gone |= {name for name in visit.lines if name.startswith(files.folder.name)}
        visit.to_be_opened.append(finding)
        return files
    else:
        return files
    finding.mended = True
    return visit.files_of(files.name)


def _put_back(visit: Visit, files: TableFiles, spare: Path) -> None:
    visit.move(files, f"{VERSIONS}/{spare.name}", "a damaged manifest", keep_line=True)
    folder = files.folder / VERSIONS
    folder.mkdir(exist_ok=True)
    replace_bytes(folder / spare.name, spare.read_bytes())
    visit.seen.forget(folder / spare.name)
    sync_folder(folder)


async def _return_to(visit: Visit, files: TableFiles, version: int) -> None:
    """Make an earlier version the latest, under a number that no process has seen."""
    for name in visit.ledger():
        short = name.removeprefix(f"{files.folder.name}/")
        if short != name and (version_of(Path(short).name) or 0) > version:
            visit.gone.add(name)
    for later, name in files.paths.items():
        if later > version:
            visit.move(files, name, "a damaged manifest")
    visit.forget_lines()
    (files.folder / VERSIONS / VERSION_HINT).unlink(missing_ok=True)
    table = await visit.connection.open_table(files.name)
    while await table.version() <= files.latest:
        await table.checkout(await table.version())
        await table.restore()
