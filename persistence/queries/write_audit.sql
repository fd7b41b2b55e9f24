INSERT INTO audit_log (principal, action, target, detail)
VALUES (%(principal)s, %(action)s, %(target)s, %(detail)s::jsonb)
