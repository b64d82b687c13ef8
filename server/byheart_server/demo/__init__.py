"""A demonstration of the server as its clients see it."""

from byheart_server.demo.demo import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
