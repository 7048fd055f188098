"""The bot: answers from what the shop knows, and hands over to a person."""
