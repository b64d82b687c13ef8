"""MCP over HTTP: where to listen, who is let in, how often, and how it shuts down."""
