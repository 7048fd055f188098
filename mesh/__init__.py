"""What makes a process a member of the mesh: identity, control plane, RPC, bus, stores, telemetry, life cycle."""
