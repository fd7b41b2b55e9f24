SELECT done, made_due
  FROM release_hold(%(kind)s, %(name)s)
