"""What a process of the mesh is: its settings, its life from start to stop, and the command that runs them all."""
