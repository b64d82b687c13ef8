"""The doors to a ByHeart store: MCP over stdio, and the `byheart` command."""
