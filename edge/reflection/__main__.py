"""Run the reflection server."""

from edge.reflection.app import app
from edge.reflection.config import ReflectionConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, ReflectionConfig)
