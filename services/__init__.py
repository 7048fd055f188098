"""The services, one folder each, all with the same anatomy; none imports another."""
