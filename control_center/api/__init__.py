"""The HTTP API: what other services and the dashboard read and change executions by."""
