SELECT delete_archived(%(archive)s::uuid, %(ids)s::uuid[], %(versions)s::text[]) AS deleted
