"""Octopus from outside: tests, faults and benchmarks through Envoy, with real clients."""
