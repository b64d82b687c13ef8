"""`byheart doctor`: what is wrong with a store, and what can be done about it."""

from __future__ import annotations

import asyncio

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.settings import Settings
from byheart_store import InvalidInput
from byheart_store.custody import Doctor, Examined, Finding

_FINDINGS_LEFT = 1


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Mend what is found; nothing is deleted.")
@click.option("--thorough", is_flag=True, help="Embed every passage again, and compare.")
@settings_options(model=False)
@json_option
def doctor_command(settings: Settings, as_json: bool, repair: bool, thorough: bool) -> int:
    """Find what is wrong with the store, and with --repair mend it.

    Looks for missing and damaged indexes, damaged, missing and left over files, bad manifests,
    passages without a memory, memories without their passages, vectors that the model did not
    make, and an interrupted change of models. Without --repair nothing is changed. What is in
    the way is moved to the folder set-aside of the home. Exit codes: 0 healthy or all mended, 1
    findings are left.
    """
    if settings.uri is not None:
        raise InvalidInput(
            f"{settings.uri} is looked after by its own service; doctor examines a store on disk: "
            "give --home DIR, and unset BYHEART_URI"
        )
    with progress("comparing vectors") as report:
        doctor = Doctor(settings.home, thorough=thorough, progress=report)
        found = asyncio.run(doctor.mend() if repair else doctor.examine())
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found, repair=repair)
    return 0 if found.healthy else _FINDINGS_LEFT


def _print(found: Examined, *, repair: bool) -> None:
    _print_findings(found.findings)
    if found.set_aside is not None:
        click.echo(f"set aside, with the reasons in why.txt: {found.set_aside}")
    if found.lost:
        click.echo(f"lost: {', '.join(found.lost)}")
    kept = "" if found.memories is None else counted(found.memories, "memory", "memories")
    if not found.findings:
        click.echo(f"healthy: {kept}")
    elif found.healthy and found.lost_rows:
        lost = counted(found.lost_rows, "passage", "passages")
        click.echo(f"mended: {kept} kept; {lost} could not be saved")
    elif found.healthy:
        click.echo(f"all mended: {kept}")
    else:
        left = sum(not finding.mended for finding in found.findings)
        advice = "see what is said of each" if repair else "to mend: byheart doctor --repair"
        click.echo(f"{counted(left, 'finding', 'findings')} left; {advice}")


def _print_findings(findings: list[Finding]) -> None:
    """One line a finding: where, what kind, whether it is mended, what it means, what is done."""
    if not findings:
        return
    wheres = max(len(finding.where) for finding in findings)
    kinds = max(len(finding.kind) for finding in findings)
    for finding in findings:
        state = "mended" if finding.mended else "found"
        click.echo(
            f"{finding.where:<{wheres}}  {finding.kind:<{kinds}}  {state:<6}  "
            f"{finding.what}; {finding.remedy}"
        )
