"""The ground: settings, pool, rows and transitions, queries, migrations, embedded services."""
