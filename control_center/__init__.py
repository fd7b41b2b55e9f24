"""People and other services: the command line."""
