"""The bot: answers from the shop's FAQ, and hands over to a person."""
