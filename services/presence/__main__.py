"""Run the presence service."""

from mesh.process.config import ServiceConfig
from mesh.process.run import run
from services.presence.app import app

if __name__ == "__main__":
    run(app, ServiceConfig)
