"""An MCPServer that can do nothing, or with the argument `echo` one thing."""

import sys

from mcp.server import MCPServer

server = MCPServer("empty")
if "echo" in sys.argv:
    server.add_tool(lambda text: text, name="echo", structured_output=False)
server.run()
