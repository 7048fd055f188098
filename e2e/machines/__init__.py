"""Three machines, as network namespaces, of which one is cut off while people talk: `make machines`."""
