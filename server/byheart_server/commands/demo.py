"""`byheart demo`: a conversation over several months, stored and recalled over MCP."""

from __future__ import annotations

import asyncio

import click


@click.command("demo")
def demo_command() -> None:
    """Show a server at work on a temporary store."""
    from byheart_server.demo import run_demo

    asyncio.run(run_demo())
