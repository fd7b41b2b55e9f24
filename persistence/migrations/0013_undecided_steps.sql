-- What waits for a person is found without reading what does not: few steps fail with an outcome that nobody knows.

CREATE INDEX idx_steps_undecided ON workflow_steps (execution_id DESC) WHERE error_kind = 'outcome_unknown';
