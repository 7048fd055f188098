"""Canned replies: texts that agents send often, shared by a shop or a person's own."""
