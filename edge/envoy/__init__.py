"""Envoy's configuration, made from typed resources and the contracts."""
