"""What needs Go, and so is not part of `make test`: `make strangers` runs it."""
