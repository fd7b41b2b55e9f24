SELECT id FROM workflows WHERE name = %(name)s
