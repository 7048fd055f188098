"""What runs a platform on one machine: the supervisor, the components, and the `octopus` command."""
