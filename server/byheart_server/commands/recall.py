"""`byheart recall`: ask the store."""

from __future__ import annotations

from typing import Any

import click

from byheart_server.commands.options import filter_options, json_option, settings_options
from byheart_server.commands.printing import day, indented, print_json
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import Filter, Hit, MemoryStore, Recall

_INDENT = 6


@click.command("recall")
@click.argument("query")
@click.option("--limit", default=8, show_default=True, help="How many memories at most.")
@click.option("--max-tokens", type=int, help="Stop where the texts together grow longer.")
@click.option("--prefer-recent", is_flag=True, help="Among near equals, the latest first.")
@click.option("--explain", is_flag=True, help="Add each leg's rank and score.")
@filter_options("namespaces", "session", "speaker", "tags", "after", "before", "as_of")
@settings_options()
@json_option
def recall_command(
    settings: Settings,
    where: Filter,
    as_json: bool,
    query: str,
    limit: int,
    max_tokens: int | None,
    prefer_recent: bool,
    explain: bool,
) -> None:
    """Show what the store knows about QUERY."""

    async def recall(store: MemoryStore) -> Recall:
        store.load_model()
        return await store.recall(
            query, limit=limit, where=where, max_tokens=max_tokens, prefer_recent=prefer_recent
        )

    answer = with_store(settings, recall)
    if as_json:
        print_json(_as_dict(answer, explain))
        return
    _print(answer, explain)


def _as_dict(answer: Recall, explain: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "recall_id": answer.recall_id,
        "hits": [_hit_as_dict(hit, explain) for hit in answer.hits],
        "no_match": answer.no_match,
        "degraded": answer.degraded,
        "milliseconds": round(answer.milliseconds, 2),
    }
    return values | ({"notice": answer.notice} if answer.notice else {})


def _hit_as_dict(hit: Hit, explain: bool) -> dict[str, Any]:
    values = hit.memory.as_dict() | {"text": hit.text, "relevance": round(hit.relevance, 4)}
    if hit.is_excerpt:
        values |= {"start": hit.start, "end": hit.end}
    if explain:
        values["explanation"] = {
            name: getattr(hit.explanation, name) for name in hit.explanation.__slots__
        }
    return values


def _print(answer: Recall, explain: bool) -> None:
    if answer.notice:
        click.echo(f"byheart: {answer.notice}", err=True)
    if answer.no_match:
        click.echo("Nothing known about that.")
    if answer.no_match and answer.hits:
        click.echo("The nearest, none of them likely to answer:")
    for hit in answer.hits:
        _print_hit(hit, explain)


def _print_hit(hit: Hit, explain: bool) -> None:
    memory = hit.memory
    place = memory.session if memory.namespace == "default" else memory.namespace
    if memory.session and place == memory.namespace:
        place = f"{memory.namespace} / {memory.session}"
    about = (memory.speaker, day(memory.at) if memory.at else None, place)
    click.echo(
        click.style(f"{hit.relevance:.2f}", bold=True)
        + "  "
        + "  ".join(part for part in about if part)
        + click.style(f"  {memory.id}", dim=True)
    )
    click.echo(indented(_shown(hit), _INDENT))
    if explain:
        click.echo(click.style(indented(_explained(hit), _INDENT), dim=True))


def _shown(hit: Hit) -> str:
    before = "... " if hit.start > 0 else ""
    after = " ..." if hit.end < len(hit.memory.text) else ""
    return f"{before}{hit.text}{after}"


def _explained(hit: Hit) -> str:
    why = hit.explanation
    text = "no text match"
    if why.text_rank is not None:
        text = f"text rank {why.text_rank} (score {why.text_score or 0:.2f})"
    vector = "no vector match"
    if why.vector_rank is not None:
        vector = f"vector rank {why.vector_rank} (cosine {why.cosine or 0:.3f})"
    return f"{text}, {vector}, fused {why.score:.4f}"
