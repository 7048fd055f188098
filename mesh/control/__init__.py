"""Who runs where, and how calls find them: the registry and the xDS feed made from it."""
