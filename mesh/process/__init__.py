"""The runtime of every process of the mesh: settings, start, recurring jobs, shutdown."""
