"""Run the knowledge service."""

from mesh.process.run import run
from services.knowledge.app import app
from services.knowledge.config import KnowledgeConfig

if __name__ == "__main__":
    run(app, KnowledgeConfig)
