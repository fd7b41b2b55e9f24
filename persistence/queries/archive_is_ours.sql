SELECT EXISTS (SELECT FROM workflow_archives WHERE id = %(id)s::uuid) AS ours
