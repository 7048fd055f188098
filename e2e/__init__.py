"""Tests and benchmarks from outside, through Envoy, with real clients; and faults."""
