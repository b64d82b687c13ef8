"""The server of a ByHeart store: MCP over stdio and HTTP, and the `byheart` command."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


@cache
def installed_version() -> str:
    """The version of the installed package; `0+source` where only its files are there."""
    try:
        return version("byheart")
    except PackageNotFoundError:
        return "0+source"
