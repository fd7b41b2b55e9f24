INSERT INTO workflow_archives (id, location, older_than) VALUES (%(id)s, %(location)s, %(older_than)s) RETURNING created_at
