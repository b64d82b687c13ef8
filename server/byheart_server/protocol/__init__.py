"""How the server speaks MCP: its dispatch, its errors, stdio, and how its process ends."""
