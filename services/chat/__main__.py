"""Run the chat service."""

from mesh.process.run import run
from services.chat.app import app
from services.chat.config import ChatConfig

if __name__ == "__main__":
    run(app, ChatConfig)
