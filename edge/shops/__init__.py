"""The two demo shops: their pages, and what a shop's own server does. Runs with demo data only."""
