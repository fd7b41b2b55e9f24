SELECT recount_workflows(%(workflows)s::text[])
