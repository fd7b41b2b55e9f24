SELECT definition::text AS definition FROM workflow_definitions WHERE hash = %(hash)s
