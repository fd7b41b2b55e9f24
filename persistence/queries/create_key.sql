INSERT INTO api_keys (id, name, role, secret_hash, expires_at)
VALUES (%(id)s, %(name)s, %(role)s, %(secret_hash)s, now() + %(seconds)s::double precision * interval '1 second')
RETURNING id, expires_at
