"""Run the bot."""

from mesh.process.run import run
from services.bot.app import app
from services.bot.config import BotConfig

if __name__ == "__main__":
    run(app, BotConfig)
