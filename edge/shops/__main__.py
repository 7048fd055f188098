"""Run the demo shops' server."""

from edge.shops.app import app
from edge.shops.config import ShopsConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, ShopsConfig)
