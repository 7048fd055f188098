"""Run the page server."""

from edge.pages.app import app
from edge.pages.config import PagesConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, PagesConfig)
