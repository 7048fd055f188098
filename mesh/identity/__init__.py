"""Who is who in the mesh: the local certificate authority, the leaves it issues and their rotation."""
