"""What no version of a table needs any more, and what unfinished work has left behind."""

from __future__ import annotations

from byheart_store.home import STAGING
from byheart_store.upkeep.damage import TableFiles
from byheart_store.upkeep.repair.visit import Visit


def set_leftovers_aside(visit: Visit, name: str) -> None:
    """See to versions that recall uses no more, and to files that none uses."""
    files = visit.files_of(name)
    broken = files.broken_versions() if files.manifest else []
    left_over, past = files.left_over(), files.damaged_transactions()
    if not _accounts_for(visit, files):
        _note_unneeded(visit, files, len(broken), len(left_over), len(past))
    if visit.repair and (broken or left_over or past):
        _put_away(visit, files, broken)


def _note_unneeded(visit: Visit, files: TableFiles, broken: int, left_over: int, past: int) -> None:
    if broken:
        what = f"{broken:,} earlier versions can't be read; no memory is affected"
        finding = visit.found.add("earlier version", files.name, what, "they are set aside")
        finding.mended = visit.repair
    if left_over:
        what = f"{left_over:,} files belong to no version: an unfinished write has left them"
        finding = visit.found.add("orphan", files.name, what, "they are set aside")
        finding.mended = visit.repair
    if past:
        what = f"{past:,} records of past writes are damaged; no memory is affected"
        finding = visit.found.add("orphan", files.name, what, "they are set aside")
        finding.mended = visit.repair


def _accounts_for(visit: Visit, files: TableFiles) -> bool:
    """Whether other findings explain what is broken and left over in this table."""
    return any(
        finding.where == files.name and finding.kind in ("data", "manifest", "index")
        for finding in visit.found.findings
    )


def _put_away(visit: Visit, files: TableFiles, broken: list[int]) -> None:
    # Only what is safe on the disk may take the place of what is moved away.
    visit.settle()
    for version in broken:
        visit.move(files, files.paths[version], "an earlier version that can't be read")
    files = visit.files_of(files.name) if broken else files
    for name in files.left_over():
        reason = files.damaged.get(name)
        visit.move(files, name, f"{reason} file" if reason else "no version needs it")
    needed = {one for version in files.versions.values() for one in version.sizes()}
    for name in files.damaged.keys() - needed:
        visit.move(files, name, f"{files.damaged[name]} file")


def set_staging_aside(visit: Visit) -> None:
    """See to the files of a backup or a restore that was cut off."""
    folder = visit.home.staging
    if not folder.exists() or visit.home.is_at_work("backup"):
        return
    finding = visit.found.add(
        "orphan",
        STAGING,
        "an unfinished backup or restore has left files",
        "they are set aside",
    )
    if visit.repair:
        visit.set_aside.move(folder, "left over from an unfinished backup or restore")
        finding.mended = True
