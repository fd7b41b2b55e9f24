-- The key by its id, if it is valid now; notes its use once a minute.
WITH used AS (
  UPDATE api_keys SET last_used_at = now()
   WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute'))
SELECT id, name, role, secret_hash, (expires_at IS NOT NULL AND expires_at <= now()) AS expired,
       revoked_at IS NOT NULL AS revoked
  FROM api_keys WHERE id = %(id)s
