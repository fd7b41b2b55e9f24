-- The audit log by who, what and on what.

CREATE INDEX idx_audit_principal ON audit_log (principal, id DESC);
CREATE INDEX idx_audit_action ON audit_log (action, id DESC);
CREATE INDEX idx_audit_target ON audit_log (target, id DESC) WHERE target IS NOT NULL;
