"""The interceptors of every server; their order is in `mesh/rpc/server.py`."""
