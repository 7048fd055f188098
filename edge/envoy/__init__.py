"""The edge's Envoy: its configuration, made from typed resources and the contracts, and the process that feeds it."""
