"""What every process of the mesh runs in: its settings, and its life from start to stop."""
