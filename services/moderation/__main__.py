"""Run the moderation service."""

from mesh.process.config import ServiceConfig
from mesh.process.run import run
from services.moderation.app import app

if __name__ == "__main__":
    run(app, ServiceConfig)
