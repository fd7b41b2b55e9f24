INSERT INTO holds (kind, name, actor, reason) VALUES (%(kind)s, %(name)s, %(actor)s, %(reason)s)
ON CONFLICT (kind, name) DO NOTHING
RETURNING created_at
