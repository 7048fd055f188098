"""gRPC reflection of all that can be called from outside."""
