"""The users of the shops, and the tokens that prove who they are."""
