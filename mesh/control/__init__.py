"""Service discovery: the registry of instances, and the xDS configuration made from it."""
