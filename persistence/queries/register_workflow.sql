SELECT id, version, enabled, created FROM register_workflow(%(name)s, %(hash)s, %(description)s)
