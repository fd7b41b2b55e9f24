SELECT claim_refresh(%(server)s, %(repeat_unannotated)s::boolean, %(ttl)s::double precision) AS claimed
