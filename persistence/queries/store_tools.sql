SELECT tool, change FROM store_tools(%(server)s, %(era)s, %(tools)s::jsonb)
