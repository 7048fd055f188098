"""What every incoming call passes, outermost first. The order is one list, in `mesh/rpc/server.py`."""
