"""Live updates: Redis says "look", PostgreSQL says what. Read hub.py first."""
