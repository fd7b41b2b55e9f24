SELECT id FROM workers
